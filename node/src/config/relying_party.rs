//! Whom passkeys and security keys are for: by default the host of the public URL.
//! Browsers bind keys to a domain, never to an address, and only where pages come over
//! HTTPS or from the machine itself; elsewhere they are not offered.

use std::net::IpAddr;

use cardea_identity::webauthn::RelyingParty;

use super::settings::Config;
use crate::layers::public_url;

/// The party that the configuration makes; `None` if there can be none.
pub fn relying_party(config: &Config) -> Option<RelyingParty> {
    let factors = &config.factors;
    let own = public_url(config);
    let id = match &factors.rp_id {
        Some(id) => id.clone(),
        None => bindable(&own)?,
    };
    let mut origins = vec![origin(&own)?];
    origins.extend(factors.rp_origins.iter().filter_map(|url| origin(url)));
    origins.retain(|origin| bindable(origin).is_some_and(|host| is_within(&host, &id)));
    let name = config.pages.name.clone();
    (!origins.is_empty()).then_some(RelyingParty { id, name, origins })
}

/// What the settings of keys break.
pub(super) fn check(config: &Config, refuse: &mut impl FnMut(&str, String)) {
    let factors = &config.factors;
    for (name, wanted) in
        [("factors.passkeys", factors.passkeys), ("factors.security_keys", factors.security_keys)]
    {
        if wanted == Some(true) && relying_party(config).is_none() {
            let why = "browsers bind keys to a domain, over HTTPS or at localhost; name one in \
                       public.url";
            refuse(name, format!("{why}, which is {} here", public_url(config)));
        }
    }
    let id = factors.rp_id.as_deref();
    if id.is_some_and(|id| id.is_empty() || id.contains([':', '/']) || is_address(id)) {
        refuse("factors.rp_id", "expected a domain such as example.com".to_owned());
    }
    for url in &factors.rp_origins {
        let host = bindable(url);
        let fits = host.is_some_and(|host| id.is_none_or(|id| is_within(&host, id)));
        if !fits || origin(url).as_deref() != Some(url) {
            let why = "expected origins such as https://app.example.com, within factors.rp_id";
            refuse("factors.rp_origins", format!("{why}; found \"{url}\""));
        }
    }
}

/// The host of a URL, if browsers let keys be bound to it.
fn bindable(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    let local = host == "localhost" || host.ends_with(".localhost");
    let secure = uri.scheme_str() == Some("https") || local;
    (secure && !is_address(&host)).then_some(host)
}

/// The origin of a URL, as browsers write it.
fn origin(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().filter(|port| *port != usual);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bound_to_domains_over_https_or_at_localhost() {
        for (url, host) in [
            ("https://id.example.com", Some("id.example.com")),
            ("https://ID.example.com:8443/x", Some("id.example.com")),
            ("http://localhost:4433", Some("localhost")),
            ("http://id.localhost", Some("id.localhost")),
            ("http://id.example.com", None),
            ("https://127.0.0.1", None),
            ("http://127.0.0.1:4433", None),
            ("https://[::1]:4433", None),
            ("nonsense", None),
        ] {
            assert_eq!(bindable(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        for (url, written) in [
            ("https://id.example.com:443/", "https://id.example.com"),
            ("https://ID.example.com:8443", "https://id.example.com:8443"),
            ("http://localhost:80", "http://localhost"),
        ] {
            assert_eq!(origin(url).as_deref(), Some(written));
        }
        assert!(is_within("id.example.com", "example.com"));
        assert!(!is_within("badexample.com", "example.com"));
        assert!(!is_within("example.com", "id.example.com"));
    }
}
