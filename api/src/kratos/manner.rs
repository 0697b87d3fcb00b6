//! How an answer is to look: native clients and scripts in pages get JSON, a browser
//! that sent a form itself is sent on to a page.

use http::{HeaderMap, header};

/// How an answer is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// JSON, with tokens.
    Native,
    /// JSON, with cookies.
    Script,
    /// Redirects, with cookies.
    Page,
}

impl Manner {
    /// That of a browser's request: JSON where its `Accept` prefers that to HTML, or
    /// its `Content-Type` is JSON.
    pub(super) fn of_browser(headers: &HeaderMap) -> Self {
        let sends = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let wants = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let sends = sends.and_then(|sends| sends.split(';').next()).unwrap_or_default();
        let sends_json = sends.trim().eq_ignore_ascii_case("application/json");
        if sends_json || prefers_json(wants.unwrap_or_default()) {
            Self::Script
        } else {
            Self::Page
        }
    }
}

/// Whether a request is a browser's that is to show a page: its `Accept` names HTML, as
/// those of scripts and API clients do not, and prefers it to JSON.
pub fn asks_for_page(headers: &HeaderMap) -> bool {
    let wants = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let names_html = |clause: &str| {
        let range = clause.split(';').next().unwrap_or_default();
        range.trim().eq_ignore_ascii_case("text/html")
    };
    wants.is_some_and(|accept| accept.split(',').any(names_html))
        && Manner::of_browser(headers) == Manner::Page
}

/// HTML is offered first: it wins where both are as welcome.
fn prefers_json(accept: &str) -> bool {
    let (mut best, mut is_json) = ((0, 0), false);
    for (offer, json) in [("text/html", false), ("application/json", true)] {
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1000, |q| q.parse::<f32>().map_or(0, |q| (q * 1000.0) as u32));
            let exactness = match range.as_str() {
                exact if exact == offer => 3,
                "*/*" => 1,
                family => match family.strip_suffix("/*") {
                    Some(family) if offer.split('/').next() == Some(family) => 2,
                    _ => continue,
                },
            };
            if quality > 0 && (quality, exactness) > best {
                (best, is_json) = ((quality, exactness), json);
            }
        }
    }
    is_json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_given_to_those_who_prefer_it() {
        for (accept, json) in [
            ("", false),
            ("*/*", false),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            // What axios sends.
            ("application/json, text/plain, */*", true),
            // What browsers send.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/html;q=0.5, application/json", true),
            ("text/*;q=0.5, application/json;q=0.4", false),
            ("application/*", true),
            ("application/json;q=0, text/html", false),
            ("application/json;q=0", false),
            ("image/png", false),
        ] {
            assert_eq!(prefers_json(accept), json, "{accept}");
        }
    }

    #[test]
    fn pages_are_for_those_who_name_html() {
        let asks = |accept: &'static str| {
            asks_for_page(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]))
        };
        assert!(asks("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(asks("Text/HTML; charset=utf-8"));
        assert!(!asks_for_page(&HeaderMap::new()));
        for other in ["", "*/*", "application/json", "text/*", "text/html;q=0.5, application/json"]
        {
            assert!(!asks(other), "{other}");
        }
    }

    #[test]
    fn who_sends_json_gets_json() {
        let mut headers = HeaderMap::new();
        assert_eq!(Manner::of_browser(&headers), Manner::Page);
        headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        assert_eq!(Manner::of_browser(&headers), Manner::Page);
        for json in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            headers.insert(header::CONTENT_TYPE, json.parse().unwrap());
            assert_eq!(Manner::of_browser(&headers), Manner::Script, "{json}");
        }
        headers.insert(header::CONTENT_TYPE, "application/json-patch+json".parse().unwrap());
        assert_eq!(Manner::of_browser(&headers), Manner::Page);
    }
}
