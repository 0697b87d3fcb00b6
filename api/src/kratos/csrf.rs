//! What keeps other sites from sending a browser's forms.
//!
//! The browser holds a secret in a cookie that no script reads. A flow that it begins
//! is told the secret's digest, and its form the secret masked anew each time. A form
//! counts if it brings the secret (in `csrf_token` or the header `X-CSRF-Token`),
//! the cookie brings the same, and the flow knows it: so a form of another site, a
//! flow of another browser and a cookie planted by a neighbouring host are all
//! refused.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use cardea_identity::CsrfDigest;
use cardea_storage::{Entropy, Secret};
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{error::ApiError, request::cookies};

/// Carries the token where a form cannot.
const HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const BYTES: usize = 32;

/// A browser's secret.
#[derive(Debug, Clone)]
pub(super) struct CsrfSecret(Secret<[u8; BYTES]>);

impl CsrfSecret {
    /// A new one.
    pub(super) fn draw(entropy: &dyn Entropy) -> Self {
        Self(Secret::new(entropy.bytes()))
    }

    /// The one in a request's cookie.
    pub(super) fn of(headers: &HeaderMap, cookie: &str) -> Option<Self> {
        let (_, value) = cookies(headers).find(|(name, _)| *name == cookie)?;
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        Some(Self(Secret::new(bytes.try_into().ok()?)))
    }

    /// The cookie's value.
    pub(super) fn cookie_value(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.expose())
    }

    /// What flows know of it.
    pub(super) fn digest(&self) -> CsrfDigest {
        CsrfDigest(blake3::derive_key("cardea csrf secret v1", self.0.expose()))
    }

    /// The token for a form: masked, so that compressed answers do not leak it bit by
    /// bit.
    pub(super) fn token(&self, entropy: &dyn Entropy) -> String {
        let mask: [u8; BYTES] = entropy.bytes();
        let mut bytes = mask.to_vec();
        bytes.extend(mask.iter().zip(self.0.expose()).map(|(m, s)| m ^ s));
        STANDARD.encode(bytes)
    }

    fn is_in(&self, token: &str) -> bool {
        let Ok(bytes) = STANDARD.decode(token) else { return false };
        if bytes.len() != 2 * BYTES {
            return false;
        }
        let (mask, masked) = bytes.split_at(BYTES);
        let secret: Vec<u8> = mask.iter().zip(masked).map(|(m, s)| m ^ s).collect();
        secret.ct_eq(self.0.expose()).into()
    }

    fn is_of(&self, flow: CsrfDigest) -> bool {
        self.digest().0.ct_eq(&flow.0).into()
    }
}

/// The name of the cookie of an API under that URL. Cookies know no ports, so the name
/// does not either: nodes that are told apart by their port alone share it, and with it
/// the flows.
pub(super) fn cookie_name(public_url: &str) -> String {
    let url: Option<Uri> = public_url.parse().ok();
    let host = url.as_ref().and_then(Uri::host).unwrap_or(public_url);
    let digest = Sha256::digest(host.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csrf_token_{hex}")
}

/// Whether a flow is of the browser that asks for it; gives the browser's secret.
///
/// # Errors
/// 403.
pub(super) fn check_owner(
    headers: &HeaderMap,
    cookie: &str,
    flow: CsrfDigest,
) -> Result<CsrfSecret, ApiError> {
    let secret = CsrfSecret::of(headers, cookie)
        .ok_or_else(|| violation("The HTTP Cookie Header brought no anti-CSRF cookie."))?;
    if !secret.is_of(flow) {
        return Err(not_begun_here());
    }
    Ok(secret)
}

/// The flow is another browser's.
pub(super) fn not_begun_here() -> ApiError {
    violation("The flow was begun with another anti-CSRF cookie.")
}

/// Whether a form was sent by the page of the browser whose flow it is.
///
/// # Errors
/// 403.
pub(super) fn check_form(
    headers: &HeaderMap,
    cookie: &str,
    flow: CsrfDigest,
    token: Option<&str>,
) -> Result<CsrfSecret, ApiError> {
    let secret = check_owner(headers, cookie, flow)?;
    secret.check_brought(headers, token)?;
    Ok(secret)
}

/// Whether a form of a page that belongs to no flow was sent by that page.
///
/// # Errors
/// 403.
pub(super) fn check_token(
    headers: &HeaderMap,
    cookie: &str,
    token: Option<&str>,
) -> Result<(), ApiError> {
    let secret = CsrfSecret::of(headers, cookie)
        .ok_or_else(|| violation("The HTTP Cookie Header brought no anti-CSRF cookie."))?;
    secret.check_brought(headers, token)
}

impl CsrfSecret {
    fn check_brought(&self, headers: &HeaderMap, token: Option<&str>) -> Result<(), ApiError> {
        let Some(token) = brought(headers, token) else {
            return Err(violation("The form and the header X-CSRF-Token brought no token."));
        };
        if !self.is_in(token) {
            return Err(violation("The token of the form is of another cookie."));
        }
        Ok(())
    }
}

/// The token that a form brings, or the header in its place.
pub(super) fn brought<'a>(headers: &'a HeaderMap, token: Option<&'a str>) -> Option<&'a str> {
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
    token.filter(|token| !token.is_empty()).or(header)
}

pub(super) fn violation(reject_reason: &'static str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN)
        .id("security_csrf_violation")
        .message("the request was rejected to protect you from Cross-Site-Request-Forgery")
        .reason(
            "Please retry the flow and optionally clear your cookies. The request was rejected to \
             protect you from Cross-Site-Request-Forgery (CSRF) which could cause account \
             takeover, leaking personal information, and other serious security issues.",
        )
        .detail("docs", "https://www.ory.sh/kratos/docs/debug/csrf")
        .detail(
            "hint",
            "Make sure to send the cookies that were set when the flow was begun (credentials: \
             \"include\"), and the value of the field csrf_token.",
        )
        .detail("reject_reason", reject_reason)
}

#[cfg(test)]
mod tests {
    use cardea_storage::SeededEntropy;

    use super::*;

    const COOKIE: &str = "csrf_token_x";

    fn headers(cookie: Option<&CsrfSecret>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(secret) = cookie {
            let value = format!("{COOKIE}={}", secret.cookie_value());
            headers.insert("cookie", value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn form_counts_with_cookie_token_and_flow_of_one_browser_only() {
        let entropy = SeededEntropy::new(1);
        let (mine, other) = (CsrfSecret::draw(&entropy), CsrfSecret::draw(&entropy));
        let (token, again) = (mine.token(&entropy), mine.token(&entropy));
        assert_ne!(token, again, "each form is masked anew");
        let check = |cookie: Option<&CsrfSecret>, flow: &CsrfSecret, token: Option<&str>| {
            check_form(&headers(cookie), COOKIE, flow.digest(), token).is_ok()
        };
        assert!(check(Some(&mine), &mine, Some(&token)));
        assert!(check(Some(&mine), &mine, Some(&again)));
        assert!(!check(None, &mine, Some(&token)), "no cookie");
        assert!(!check(Some(&mine), &mine, None), "no token");
        assert!(!check(Some(&mine), &mine, Some("")), "an empty token");
        assert!(!check(Some(&mine), &mine, Some(&other.token(&entropy))), "a stranger's token");
        assert!(!check(Some(&other), &mine, Some(&other.token(&entropy))), "a stranger's flow");
        assert!(!check(Some(&mine), &mine, Some(&mine.cookie_value())), "the cookie's own value");
        assert!(!check(Some(&mine), &mine, Some(&token[..token.len() - 4])), "a cut token");
        let mut with_header = headers(Some(&mine));
        with_header.insert(HEADER, token.parse().unwrap());
        assert!(check_form(&with_header, COOKIE, mine.digest(), None).is_ok());
    }

    #[test]
    fn cookie_is_named_for_its_api() {
        let name = cookie_name("http://127.0.0.1:4433");
        assert_eq!(name.len(), "csrf_token_".len() + 64);
        assert_eq!(name, cookie_name("http://127.0.0.1:4533"), "cookies know no ports");
        assert_ne!(name, cookie_name("http://localhost:4433"));
    }
}
