//! What keeps browsers away from the admin listener.
//!
//! It stands on loopback and trusts whoever reaches it, so a page anywhere
//! must not reach it through a visitor's browser: not by naming a host of its
//! own that resolves to 127.0.0.1 (DNS rebinding), not by a plain form or
//! fetch. A request must name this listener by an address or a configured
//! host, and must not come from a page at all, unless the page is of an origin that is
//! listed for the listener (Keto's listeners have such lists).

use std::{collections::BTreeSet, net::IpAddr};

use http::{HeaderMap, StatusCode, Uri, header};

use super::{cors::Page, refusal::Refusal};

/// The names under which a listener answers.
#[derive(Debug, Clone, Default)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// These names, beside addresses and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether the host (without port) is an address, `localhost` or a name
    /// of the list.
    pub fn has(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.0.contains(&host.to_ascii_lowercase())
    }

    /// Refuses what a browser could have been made to send, but for a listed page.
    pub fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        listed: Option<&Page>,
    ) -> Result<(), Refusal> {
        let host = host_of(uri, headers);
        if !host.as_deref().is_some_and(|host| self.has(host)) {
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "The admin listener answers to its address and to the names in admin.hosts.",
            ));
        }
        let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
        let is_page =
            headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site != b"none");
        if is_page && listed.is_none() {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "The admin listener does not answer web pages.",
            ));
        }
        Ok(())
    }
}

/// The host that a request names, without its port: of the URI (HTTP/2) or of
/// the Host header. Two different ones, or several headers, name none.
pub fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut named = headers.get_all(header::HOST).iter();
    let header_host = match (named.next(), named.next()) {
        (Some(_), Some(_)) => return None,
        (Some(value), None) => Some(value.to_str().ok()?.parse::<http::uri::Authority>().ok()?),
        (None, _) => None,
    };
    match (uri.authority(), header_host) {
        (Some(a), Some(b)) if !a.host().eq_ignore_ascii_case(b.host()) => None,
        (Some(authority), _) => Some(authority.host().to_owned()),
        (None, Some(authority)) => Some(authority.host().to_owned()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_answered_and_no_others() {
        let hosts = Hosts::new(["Admin.internal".to_owned()]);
        for (host, wanted) in [
            ("127.0.0.1:4434", true),
            ("[::1]:4434", true),
            ("localhost:4434", true),
            ("LOCALHOST", true),
            ("admin.internal:4434", true),
            ("evil.example:4434", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.nip.io", false),
            ("", false),
            ("a b", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let answer = hosts.check(&Uri::from_static("/x"), &headers, None);
            assert_eq!(answer.is_ok(), wanted, "{host}");
        }
        assert!(hosts.check(&Uri::from_static("/x"), &HeaderMap::new(), None).is_err());
    }

    #[test]
    fn a_second_host_or_another_authority_is_refused() {
        let hosts = Hosts::default();
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "127.0.0.1".parse().unwrap());
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert!(hosts.check(&Uri::from_static("/x"), &headers, None).is_err());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1".parse().unwrap());
        assert!(hosts.check(&Uri::from_static("http://evil.example/x"), &headers, None).is_err());
    }

    #[test]
    fn pages_are_refused_even_under_the_right_host() {
        let hosts = Hosts::default();
        for (name, value, wanted) in [
            ("origin", "https://evil.example", false),
            ("origin", "http://127.0.0.1:4434", false),
            ("origin", "null", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "none", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:4434".parse().unwrap());
            headers.insert(name, value.parse().unwrap());
            assert_eq!(
                hosts.check(&Uri::from_static("/x"), &headers, None).is_ok(),
                wanted,
                "{name} {value}"
            );
        }
    }
}
