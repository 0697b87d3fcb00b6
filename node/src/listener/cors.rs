//! Which web pages of other origins may call a listener (CORS).
//!
//! None, unless the operator lists their origins, each whole and compared exactly: no
//! patterns, no suffixes, never `*` or `null`. A browser asks beforehand (a preflight),
//! and the answer names the methods that the path has. Pages that are not listed are
//! answered as if this module were not there, so a browser shows them nothing.
//!
//! On the public listener a listed page also sends the visitor's cookies, as an
//! application of one's own with its pages elsewhere needs to. On Keto's listeners it
//! does not, and shows an API key even where the listener trusts whoever reaches it:
//! through a page the whole web reaches it.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, header};

use crate::config::web_origin::WebOrigin;

/// How long a browser may keep the answer to a preflight, in seconds: so long does a
/// page that is no longer listed go on sending, and it reads nothing even then.
const MAX_AGE: &str = "600";

/// What pages may send beside the headers that every page may.
const SENT: &str = "authorization, content-type, grpc-timeout, last-event-id, traceparent, \
                    x-cardea-consistency, x-csrf-token, x-grpc-web, x-request-id, \
                    x-session-token, x-user-agent";

/// What pages may read beside the headers that every page may.
const SHOWN: &str = "grpc-message, grpc-status, grpc-status-details-bin, link, retry-after, \
                     x-cardea-snaptoken, x-request-id, x-total-count";

/// The origins that a listener answers.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    listed: BTreeSet<String>,
    cookies: bool,
}

/// A page of a listed origin, by what its browser calls the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page(HeaderValue);

impl Origins {
    /// These, with or without the visitor's cookies.
    pub fn new(listed: &[WebOrigin], cookies: bool) -> Self {
        Self { listed: listed.iter().map(ToString::to_string).collect(), cookies }
    }

    /// The page that a request comes from, if it is of a listed origin.
    pub fn page(&self, headers: &HeaderMap) -> Option<Page> {
        let mut named = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (named.next(), named.next()) else { return None };
        let listed = origin.to_str().is_ok_and(|origin| self.listed.contains(origin));
        listed.then(|| Page(origin.clone()))
    }

    /// Tells a browser what a page may see. Whoever keeps answers must keep them apart
    /// by origin, also those to pages that are not listed.
    pub fn finish(&self, page: Option<&Page>, headers: &mut HeaderMap) {
        if self.listed.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(Page(origin)) = page else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SHOWN));
        if self.cookies {
            headers
                .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// Whether a browser asks whether its page may send a request.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a page may send to a path that has these methods.
pub fn permit(methods: &str, headers: &mut HeaderMap) {
    if let Ok(methods) = HeaderValue::from_str(methods) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N25: no origin is reflected that is not listed.
    #[test]
    fn pages_are_told_apart_by_the_whole_of_their_origin() {
        let listed = ["https://app.example.com".parse().unwrap()];
        let origins = Origins::new(&listed, false);
        let page = |named: &[&str]| {
            let mut headers = HeaderMap::new();
            for origin in named {
                headers.append(header::ORIGIN, origin.parse().unwrap());
            }
            origins.page(&headers).is_some()
        };
        assert!(page(&["https://app.example.com"]));
        for others in [
            &[] as &[&str],
            &["null"],
            &["https://app.example.com:8443"],
            &["http://app.example.com"],
            &["https://app.example.com.evil.example"],
            &["https://evil.example#https://app.example.com"],
            &["https://APP.example.com"],
            &["https://app.example.com", "https://app.example.com"],
            &["https://app.example.com", "https://evil.example"],
        ] {
            assert!(!page(others), "{others:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "null".parse().unwrap());
        assert_eq!(Origins::default().page(&headers), None, "none is listed");
    }
}
