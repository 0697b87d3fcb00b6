//! Where browsers are sent: the pages of flows, and the places that `return_to` may
//! name.
//!
//! A place is allowed if it is of the public URL's origin, or matches an entry of the
//! list exactly: an entry without a path allows its origin (scheme, host and port
//! must be the same), one with a path that path alone, whatever the query; any other
//! scheme the very text. Nothing is a prefix, a suffix or a pattern, and what could
//! be read in two ways (user info, backslashes, control characters) is refused.

use cardea_identity::flow::Purpose;

/// Where pages are, and where browsers may be sent.
#[derive(Debug, Clone)]
pub struct Urls {
    /// The base of the API, without a slash at the end.
    pub public: String,
    /// The page of logins.
    pub login: String,
    /// The page of registrations.
    pub registration: String,
    /// The page of settings.
    pub settings: String,
    /// The page of recoveries.
    pub recovery: String,
    /// The page of verifications.
    pub verification: String,
    /// The page that shows errors.
    pub error: String,
    /// Where a completed flow goes that names no other place.
    pub default_return: String,
    /// The places that `return_to` may name.
    pub allowed_return: Vec<String>,
}

/// A `return_to` that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden;

impl Urls {
    /// The pages that come with the API, and no place but its own origin.
    pub fn new(public_url: &str) -> Self {
        let page = |name: &str| format!("{public_url}/ui/{name}");
        Self {
            public: public_url.to_owned(),
            login: page("login"),
            registration: page("registration"),
            settings: page("settings"),
            recovery: page("recovery"),
            verification: page("verification"),
            error: page("error"),
            default_return: page("welcome"),
            allowed_return: Vec::new(),
        }
    }

    /// The page of a flow.
    pub fn page(&self, purpose: Purpose, flow: &str) -> String {
        let page = match purpose {
            Purpose::Login => &self.login,
            Purpose::Registration => &self.registration,
            Purpose::Settings => &self.settings,
            Purpose::Recovery => &self.recovery,
            Purpose::Verification => &self.verification,
        };
        with_parameter(page, "flow", flow)
    }

    /// The page of an error.
    pub fn error_page(&self, id: &str) -> String {
        with_parameter(&self.error, "id", id)
    }

    /// A place that somebody asks to be sent to, as a whole URL.
    ///
    /// # Errors
    /// If it is not allowed.
    pub fn allow(&self, wanted: &str) -> Result<String, Forbidden> {
        if wanted.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
            return Err(Forbidden);
        }
        if wanted.starts_with('/') && !wanted.starts_with("//") {
            let own = Parts::of(&self.public).ok_or(Forbidden)?;
            return Ok(format!("{}://{}{wanted}", own.scheme, own.authority));
        }
        if wanted == self.default_return {
            return Ok(wanted.to_owned());
        }
        let Some(parts) = Parts::of(wanted) else {
            let listed = self.allowed_return.iter().any(|entry| entry == wanted);
            return if listed && is_other_scheme(wanted) {
                Ok(wanted.to_owned())
            } else {
                Err(Forbidden)
            };
        };
        let own = Parts::of(&self.public).is_some_and(|own| own.is_same_origin(&parts));
        let allowed = own
            || self.allowed_return.iter().filter_map(|entry| Parts::of(entry)).any(|entry| {
                entry.is_same_origin(&parts)
                    && (matches!(entry.path, "" | "/") || entry.path == parts.path)
            });
        if allowed { Ok(wanted.to_owned()) } else { Err(Forbidden) }
    }

    /// The origins that browsers may be sent to, and the schemes of applications, as a
    /// content security policy names them.
    pub fn origins(&self) -> Vec<String> {
        let all = self.allowed_return.iter().chain([&self.default_return]);
        let origin = |url: &String| match Parts::of(url) {
            Some(parts) => Some(format!("{}://{}", parts.scheme, parts.authority)),
            None if is_other_scheme(url) => Some(format!("{}:", url.split_once(':')?.0)),
            None => None,
        };
        let mut origins: Vec<String> = all.filter_map(origin).collect();
        origins.sort();
        origins.dedup();
        origins
    }
}

/// A URL with one more query parameter, before its fragment; the value needs no escape.
pub(super) fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let (url, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{name}={value}{fragment}")
}

/// A web URL, taken apart.
struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if authority.is_empty() || !authority.bytes().all(plain) {
            return None;
        }
        let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        Some(Self { scheme, authority, path })
    }

    fn is_same_origin(&self, other: &Parts<'_>) -> bool {
        self.scheme == other.scheme
            && without_default_port(self.scheme, self.authority)
                .eq_ignore_ascii_case(without_default_port(other.scheme, other.authority))
    }
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

/// Whether a URL is of an application's own scheme, and none that a browser runs.
fn is_other_scheme(url: &str) -> bool {
    let Some((scheme, _)) = url.split_once(':') else { return false };
    let named = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let runs = ["javascript", "data", "vbscript", "blob", "file", "http", "https", "about"];
    named && !runs.iter().any(|other| scheme.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls() -> Urls {
        Urls {
            allowed_return: vec![
                "https://app.example.com".to_owned(),
                "https://shop.example.com/back".to_owned(),
                "my-app://callback".to_owned(),
                "javascript:alert(1)".to_owned(),
            ],
            ..Urls::new("https://id.example.com")
        }
    }

    #[test]
    fn listed_places_and_the_own_origin_are_allowed() {
        for (wanted, url) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://app.example.com/any/path?x=1#y", "https://app.example.com/any/path?x=1#y"),
            ("https://APP.example.com:443/", "https://APP.example.com:443/"),
            ("https://shop.example.com/back?cart=7", "https://shop.example.com/back?cart=7"),
            ("my-app://callback", "my-app://callback"),
            ("https://id.example.com/ui/settings", "https://id.example.com/ui/settings"),
            ("/ui/settings", "https://id.example.com/ui/settings"),
        ] {
            assert_eq!(urls().allow(wanted), Ok(url.to_owned()), "{wanted}");
        }
    }

    /// N1: the class of advisories that is longest of all (Keycloak CVE-2023-6291 and
    /// eight more, fosite, oauth2-proxy CVE-2021-21291): hosts that only look right.
    #[test]
    fn places_that_only_look_like_listed_ones_are_refused() {
        for wanted in [
            "https://app.example.com.evil.example/",
            "https://evil.example/https://app.example.com",
            "https://app.example.com@evil.example/",
            "https://app.example.com:443@evil.example/",
            "https://evil.example\\@app.example.com/",
            "https://evil.example#@app.example.com/",
            "https://evil.example?@app.example.com/",
            "http://app.example.com/",
            "https://app.example.com:8443/",
            "https://xapp.example.com/",
            "https://shop.example.com/",
            "https://shop.example.com/back/../admin",
            "https://shop.example.com/back/..;/admin",
            "https://shop.example.com/back%2f..%2fadmin",
            "https://shop.example.com/Back",
            "//evil.example/",
            "/\\evil.example/",
            "\\\\evil.example/",
            "https:/evil.example",
            "https:evil.example",
            "HTTPS://app.example.com.evil.example",
            "javascript:alert(1)",
            "JavaScript://app.example.com/%0aalert(1)",
            "data:text/html,x",
            "my-app://callback/else",
            "my-app://callback?x",
            "https://app.example.com/\r\nSet-Cookie: x",
            " https://app.example.com",
            "https://äpp.example.com",
            "evil.example",
            "",
        ] {
            assert_eq!(urls().allow(wanted), Err(Forbidden), "{wanted}");
        }
    }

    /// What a page's forms may end in: browsers hold the redirects of a form to that.
    #[test]
    fn forms_may_end_in_every_place_that_is_allowed() {
        let wanted = [
            "http://id.example.com",
            "https://app.example.com",
            "https://shop.example.com",
            "my-app:",
        ];
        let urls = Urls { default_return: "http://id.example.com/home".to_owned(), ..urls() };
        assert_eq!(urls.origins(), wanted);
    }

    #[test]
    fn a_parameter_joins_those_that_are_there() {
        assert_eq!(with_parameter("https://a/b", "flow", "x"), "https://a/b?flow=x");
        assert_eq!(with_parameter("https://a/b?c=d", "flow", "x"), "https://a/b?c=d&flow=x");
        // What stands behind the mark never leaves the browser.
        assert_eq!(with_parameter("https://a/#/b?c", "code", "x"), "https://a/?code=x#/b?c");
        assert_eq!(with_parameter("app://a?b=c#d", "code", "x"), "app://a?b=c&code=x#d");
    }
}
