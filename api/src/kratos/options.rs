//! What an operator may choose of the API: where pages are, how cookies are set.

use std::time::Duration;

use super::{pages::theme::Theme, urls::Urls};

/// The `SameSite` attribute of cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent on top-level navigations from other sites.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent.
    None,
}

impl SameSite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// How cookies are set.
#[derive(Debug, Clone)]
pub struct CookieOptions {
    /// The name of the session cookie.
    pub name: String,
    /// The domain of all cookies; `None`: the host alone.
    pub domain: Option<String>,
    /// When other sites may make a browser send them.
    pub same_site: SameSite,
    /// Whether they go over HTTPS only.
    pub secure: bool,
    /// Whether the session cookie outlives the browser's own session.
    pub persistent: bool,
}

impl Default for CookieOptions {
    /// `ory_kratos_session`, Lax, Secure, persistent.
    fn default() -> Self {
        Self {
            name: "ory_kratos_session".to_owned(),
            domain: None,
            same_site: SameSite::Lax,
            secure: true,
            persistent: true,
        }
    }
}

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where pages are, and where browsers may be sent.
    pub urls: Urls,
    /// How the included pages look.
    pub theme: Theme,
    /// How cookies are set.
    pub cookies: CookieOptions,
    /// How long others may keep the answer of `toSession`, told in
    /// `Ory-Session-Cache-For`; zero: it is not told, and they may not.
    pub session_cache: Duration,
}

impl Options {
    /// The defaults for an API that is reached under `public_url`.
    pub fn new(public_url: &str) -> Self {
        Self {
            urls: Urls::new(public_url),
            theme: Theme::default(),
            cookies: CookieOptions::default(),
            session_cache: Duration::ZERO,
        }
    }
}
