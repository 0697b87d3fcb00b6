//! The words that settings choose among.

use super::value::choice;

choice! {
    /// How the admin listener knows its callers.
    AdminAuth {
        /// An API key with the route's scope.
        Key = "key",
        /// A client certificate of `admin.client_authority_file`.
        Mtls = "mtls",
        /// Nobody is asked; written out, because it is dangerous.
        None = "none",
    }
}

choice! {
    /// How nodes prove themselves to each other.
    ClusterTls {
        /// Mutual TLS with the named files.
        Files = "files",
        /// In the clear; on loopback only.
        Off = "off",
    }
}

choice! {
    /// How log lines look.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For a person's eye.
        Human = "human",
    }
}

choice! {
    /// The `SameSite` attribute of session cookies.
    SameSite {
        /// Sent on top-level navigations from other sites.
        Lax = "lax",
        /// Never sent from other sites.
        Strict = "strict",
        /// Always sent; needs HTTPS.
        None = "none",
    }
}

choice! {
    /// What is asked of a session.
    RequiredAal {
        /// One factor.
        Aal1 = "aal1",
        /// Two factors of those who have two.
        HighestAvailable = "highest_available",
    }
}

choice! {
    /// How somebody shows that an address is its own.
    AddressProof {
        /// A code that was sent there.
        Code = "code",
        /// A link that was sent there.
        Link = "link",
    }
}
