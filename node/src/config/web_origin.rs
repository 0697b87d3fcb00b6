//! Origins of web pages, for those that may call a listener from elsewhere.

use std::{fmt, net::IpAddr, str::FromStr};

use http::uri::Authority;

/// An origin of web pages: scheme, host, and a port where it is not the scheme's own,
/// as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebOrigin(String);

impl FromStr for WebOrigin {
    type Err = String;

    /// Reads `https://host` or `https://host:port`; `http` only on this machine, since
    /// whoever is on the way could put a page of his own there.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            format!("expected an origin such as https://app.example.com, found \"{text}\"{why}")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse(""))?;
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains(['*', '@', '/', '?', '#']) {
            return Err(refuse(", which is no whole origin and nothing else"));
        }
        let authority: Authority = rest.parse().map_err(|_| refuse(""))?;
        let host = authority.host().to_ascii_lowercase();
        let own = match scheme.as_str() {
            "https" => 443,
            "http" if is_this_machine(&host) => 80,
            "http" => return Err(refuse("; http is taken for localhost only")),
            _ => return Err(refuse("")),
        };
        // What is no port is none to `Authority`, and "host:" too.
        let port = match (authority.port_u16(), rest.len() > authority.host().len()) {
            (Some(0), _) | (None, true) => return Err(refuse("")),
            (Some(port), _) if port != own => format!(":{port}"),
            _ => String::new(),
        };
        Ok(Self(format!("{scheme}://{host}{port}")))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, origin) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://app.localhost", "http://app.localhost"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ] {
            assert_eq!(text.parse::<WebOrigin>().unwrap().to_string(), origin);
        }
    }

    #[test]
    fn patterns_paths_and_pages_that_others_could_replace_are_refused() {
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/login",
            "https://app.example.com?x",
            "https://me@app.example.com",
            "https://app.example.com:",
            "https://app.example.com:0",
            "https://app.example.com:99999",
            "http://app.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "file:///tmp/x",
        ] {
            let told = text.parse::<WebOrigin>().unwrap_err();
            assert!(told.starts_with("expected an origin"), "{text}: {told}");
        }
    }
}
