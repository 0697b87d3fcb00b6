//! What a browser is asked for (`PublicKeyCredentialCreationOptions`,
//! `PublicKeyCredentialRequestOptions`), in JSON with bytes in URL-safe base64.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Challenge, RelyingParty, UserVerification, cose::Algorithm};

/// How long a browser waits for its user, in milliseconds.
const TIMEOUT_MS: u32 = 300_000;

/// A key that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// Its id.
    pub id: Vec<u8>,
    /// How the authenticator is reached, as it said itself.
    pub transports: Vec<String>,
}

impl KnownKey {
    fn descriptor(&self) -> Value {
        let mut descriptor = json!({"type": "public-key", "id": URL_SAFE_NO_PAD.encode(&self.id)});
        if !self.transports.is_empty() {
            descriptor["transports"] = json!(self.transports);
        }
        descriptor
    }
}

/// For whom a key is made.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// What the authenticator knows somebody by.
    pub handle: &'a [u8],
    /// What is shown where there are several.
    pub name: &'a str,
}

impl UserVerification {
    const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Discouraged => "discouraged",
        }
    }
}

/// Asks for a new key; `discoverable` for one that the authenticator finds by itself.
pub fn creation(
    party: &RelyingParty,
    challenge: &Challenge,
    user: User<'_>,
    discoverable: bool,
    known: &[KnownKey],
) -> Value {
    let verification =
        if discoverable { UserVerification::Required } else { UserVerification::Discouraged };
    let known: Vec<Value> = known.iter().map(KnownKey::descriptor).collect();
    let algorithms = Algorithm::ALL;
    let algorithms: Vec<Value> =
        algorithms.iter().map(|a| json!({"type": "public-key", "alg": a.number()})).collect();
    json!({"publicKey": {
        "rp": {"name": party.name, "id": party.id},
        "user": {
            "name": user.name,
            "displayName": user.name,
            "id": URL_SAFE_NO_PAD.encode(user.handle),
        },
        "challenge": URL_SAFE_NO_PAD.encode(challenge.0),
        "pubKeyCredParams": algorithms,
        "timeout": TIMEOUT_MS,
        "excludeCredentials": known,
        "authenticatorSelection": {
            "requireResidentKey": discoverable,
            "residentKey": if discoverable { "required" } else { "discouraged" },
            "userVerification": verification.name(),
        },
        "attestation": "none",
    }})
}

/// Asks to use a key: one of those, or any that the authenticator finds.
pub fn request(
    party: &RelyingParty,
    challenge: &Challenge,
    verification: UserVerification,
    known: &[KnownKey],
) -> Value {
    let mut options = json!({
        "challenge": URL_SAFE_NO_PAD.encode(challenge.0),
        "timeout": TIMEOUT_MS,
        "rpId": party.id,
        "userVerification": verification.name(),
    });
    if !known.is_empty() {
        let known: Vec<Value> = known.iter().map(KnownKey::descriptor).collect();
        options["allowCredentials"] = json!(known);
    }
    json!({"publicKey": options})
}
