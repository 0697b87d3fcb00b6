//! What is known of kinds of providers: a row for each.

use super::provider::ClaimsSource;

/// A kind of provider.
#[derive(Debug)]
pub struct Preset {
    /// The name in configurations, as in Ory Kratos.
    pub name: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// Its issuer; empty where an operator names it. For one without ID tokens, what
    /// stands for an issuer.
    pub issuer: &'static str,
    /// Whether it gives ID tokens and says where its endpoints are.
    pub is_openid: bool,
    /// Where browsers are sent; empty where its metadata says that.
    pub auth_url: &'static str,
    /// Where codes are exchanged.
    pub token_url: &'static str,
    /// Where claims are.
    pub userinfo_url: &'static str,
    /// What is asked for.
    pub scope: &'static [&'static str],
    /// Where claims come from.
    pub claims_source: ClaimsSource,
    /// Whether codes can be bound; `None` where its metadata says that.
    pub pkce: Option<bool>,
    /// Whether its ID tokens bring our nonce back.
    pub nonce: bool,
    /// Whether it answers by a form, which brings no cookies.
    pub form_post: bool,
    /// Whether an ID token that an application got itself is taken.
    pub native_tokens: bool,
    /// Where its userinfo has claims under other names.
    pub shape: Shape,
}

/// Where the claims of a userinfo answer are: JSON pointers, empty for none.
#[derive(Debug)]
pub struct Shape {
    /// The subject.
    pub sub: &'static str,
    /// The address.
    pub email: &'static str,
    /// Whether the address was verified.
    pub email_verified: &'static str,
    /// The whole name.
    pub name: &'static str,
    /// What it is called there.
    pub preferred_username: &'static str,
    /// A picture.
    pub picture: &'static str,
}

const OPENID: Shape = Shape {
    sub: "/sub",
    email: "/email",
    email_verified: "/email_verified",
    name: "/name",
    preferred_username: "/preferred_username",
    picture: "/picture",
};

const GENERIC: Preset = Preset {
    name: "generic",
    label: "",
    issuer: "",
    is_openid: true,
    auth_url: "",
    token_url: "",
    userinfo_url: "",
    scope: &["openid", "email", "profile"],
    claims_source: ClaimsSource::IdToken,
    pkce: None,
    nonce: true,
    form_post: false,
    native_tokens: false,
    shape: OPENID,
};

const OAUTH2: Preset = Preset {
    is_openid: false,
    claims_source: ClaimsSource::Userinfo,
    pkce: Some(false),
    nonce: false,
    ..GENERIC
};

/// Every kind.
pub static PRESETS: &[Preset] = &[
    GENERIC,
    Preset {
        name: "google",
        label: "Google",
        issuer: "https://accounts.google.com",
        native_tokens: true,
        ..GENERIC
    },
    Preset {
        name: "microsoft",
        label: "Microsoft",
        // Each tenant is an issuer of its own; see `claims`.
        issuer: "https://login.microsoftonline.com/{tenantid}/v2.0",
        pkce: Some(true),
        ..GENERIC
    },
    Preset {
        name: "apple",
        label: "Apple",
        issuer: "https://appleid.apple.com",
        scope: &["openid", "email", "name"],
        form_post: true,
        native_tokens: true,
        ..GENERIC
    },
    Preset { name: "gitlab", label: "GitLab", issuer: "https://gitlab.com", ..GENERIC },
    Preset { name: "slack", label: "Slack", issuer: "https://slack.com", ..GENERIC },
    Preset {
        name: "linkedin",
        label: "LinkedIn",
        issuer: "https://www.linkedin.com/oauth",
        nonce: false,
        ..GENERIC
    },
    Preset {
        name: "twitch",
        label: "Twitch",
        issuer: "https://id.twitch.tv/oauth2",
        scope: &["openid", "user:read:email"],
        ..GENERIC
    },
    Preset { name: "auth0", label: "Auth0", ..GENERIC },
    Preset {
        name: "salesforce",
        label: "Salesforce",
        issuer: "https://login.salesforce.com",
        ..GENERIC
    },
    Preset {
        name: "netid",
        label: "netID",
        issuer: "https://broker.netid.de",
        claims_source: ClaimsSource::Userinfo,
        ..GENERIC
    },
    Preset {
        name: "github",
        label: "GitHub",
        issuer: "https://github.com",
        auth_url: "https://github.com/login/oauth/authorize",
        token_url: "https://github.com/login/oauth/access_token",
        userinfo_url: "https://api.github.com/user",
        scope: &["read:user", "user:email"],
        pkce: Some(true),
        shape: Shape {
            sub: "/id",
            // Those of the profile are not verified; see `exchange`.
            email: "/verified_email",
            email_verified: "/email_verified",
            name: "/name",
            preferred_username: "/login",
            picture: "/avatar_url",
        },
        ..OAUTH2
    },
    Preset {
        name: "discord",
        label: "Discord",
        issuer: "https://discord.com",
        auth_url: "https://discord.com/oauth2/authorize",
        token_url: "https://discord.com/api/oauth2/token",
        userinfo_url: "https://discord.com/api/users/@me",
        scope: &["identify", "email"],
        pkce: Some(true),
        shape: Shape {
            sub: "/id",
            email: "/email",
            email_verified: "/verified",
            name: "/global_name",
            preferred_username: "/username",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "facebook",
        label: "Facebook",
        issuer: "https://www.facebook.com",
        auth_url: "https://www.facebook.com/v21.0/dialog/oauth",
        token_url: "https://graph.facebook.com/v21.0/oauth/access_token",
        userinfo_url: "https://graph.facebook.com/v21.0/me?fields=id,name,email",
        scope: &["email", "public_profile"],
        shape: Shape {
            sub: "/id",
            email: "/email",
            email_verified: "",
            name: "/name",
            preferred_username: "",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "spotify",
        label: "Spotify",
        issuer: "https://accounts.spotify.com",
        auth_url: "https://accounts.spotify.com/authorize",
        token_url: "https://accounts.spotify.com/api/token",
        userinfo_url: "https://api.spotify.com/v1/me",
        scope: &["user-read-email"],
        pkce: Some(true),
        shape: Shape {
            sub: "/id",
            email: "/email",
            // Spotify does not verify it.
            email_verified: "",
            name: "/display_name",
            preferred_username: "",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "amazon",
        label: "Amazon",
        issuer: "https://www.amazon.com",
        auth_url: "https://www.amazon.com/ap/oa",
        token_url: "https://api.amazon.com/auth/o2/token",
        userinfo_url: "https://api.amazon.com/user/profile",
        scope: &["profile"],
        pkce: Some(true),
        shape: Shape {
            sub: "/user_id",
            email: "/email",
            email_verified: "",
            name: "/name",
            preferred_username: "",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "x",
        label: "X",
        issuer: "https://x.com",
        auth_url: "https://x.com/i/oauth2/authorize",
        token_url: "https://api.x.com/2/oauth2/token",
        userinfo_url: "https://api.x.com/2/users/me",
        scope: &["users.read", "tweet.read"],
        pkce: Some(true),
        shape: Shape {
            sub: "/data/id",
            email: "",
            email_verified: "",
            name: "/data/name",
            preferred_username: "/data/username",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "patreon",
        label: "Patreon",
        issuer: "https://www.patreon.com",
        auth_url: "https://www.patreon.com/oauth2/authorize",
        token_url: "https://www.patreon.com/api/oauth2/token",
        userinfo_url: "https://www.patreon.com/api/oauth2/v2/identity\
                       ?fields%5Buser%5D=email,full_name,is_email_verified",
        scope: &["identity", "identity[email]"],
        shape: Shape {
            sub: "/data/id",
            email: "/data/attributes/email",
            email_verified: "/data/attributes/is_email_verified",
            name: "/data/attributes/full_name",
            preferred_username: "",
            picture: "",
        },
        ..OAUTH2
    },
    Preset {
        name: "yandex",
        label: "Yandex",
        issuer: "https://oauth.yandex.com",
        auth_url: "https://oauth.yandex.com/authorize",
        token_url: "https://oauth.yandex.com/token",
        userinfo_url: "https://login.yandex.ru/info?format=json",
        scope: &["login:email", "login:info"],
        pkce: Some(true),
        shape: Shape {
            sub: "/id",
            email: "/default_email",
            email_verified: "",
            name: "/real_name",
            preferred_username: "/login",
            picture: "",
        },
        ..OAUTH2
    },
];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_whole() {
        for (at, preset) in PRESETS.iter().enumerate() {
            assert!(PRESETS[..at].iter().all(|other| other.name != preset.name), "{}", preset.name);
            let urls = [preset.auth_url, preset.token_url, preset.userinfo_url];
            if preset.is_openid {
                assert!(preset.scope.contains(&"openid"), "{}", preset.name);
            } else {
                assert!(urls.iter().all(|url| url.starts_with("https://")), "{}", preset.name);
                assert!(!preset.issuer.is_empty() && !preset.shape.sub.is_empty());
            }
            for url in urls.iter().filter(|url| !url.is_empty()) {
                assert!(url::Url::parse(url).is_ok(), "{url}");
            }
        }
        assert!(find("google").is_some() && find("none").is_none());
    }
}
