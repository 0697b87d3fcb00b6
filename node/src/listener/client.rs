//! Who is calling: the address of the client, believed from a forwarding
//! header only when a trusted proxy wrote it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::cidr::Cidr;

/// The client's address as far as it can be trusted. Handlers find it among
/// the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Finds the client: the peer, unless that is a trusted proxy; then the
/// right-most forwarded address that is not one. A proxy appends what it saw,
/// so anything left of the first untrusted address may be invented.
///
/// `Forwarded` (RFC 7239) is read if there, else `X-Forwarded-For`. An entry
/// that is no address (`unknown`, `_hidden`) ends the search at the last one
/// that was.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let hops: Vec<Option<IpAddr>> = if headers.contains_key("forwarded") {
        header_items(headers, "forwarded").map(|item| forwarded_for(&item)).collect()
    } else {
        header_items(headers, "x-forwarded-for").map(|item| address(&item)).collect()
    };
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop else { return client };
        client = hop.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// Whether the connection to the client is encrypted: by us, or by a trusted
/// proxy that says so.
pub fn is_secure(peer: IpAddr, own_tls: bool, headers: &HeaderMap, trusted: &[Cidr]) -> bool {
    if own_tls {
        return true;
    }
    if !trusted.iter().any(|range| range.contains(peer)) {
        return false;
    }
    match header_items(headers, "x-forwarded-proto").last() {
        Some(proto) => proto.eq_ignore_ascii_case("https"),
        None => header_items(headers, "forwarded").last().is_some_and(|item| {
            item.split(';').any(|pair| pair.trim().eq_ignore_ascii_case("proto=https"))
        }),
    }
}

fn header_items<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    headers.get_all(name).iter().flat_map(|value| {
        value.to_str().unwrap_or("unknown").split(',').map(|item| item.trim().to_owned())
    })
}

fn forwarded_for(item: &str) -> Option<IpAddr> {
    item.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"'))).flatten()
    })
}

fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// N16: nobody else says where a request comes from.
    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        let trusted: Vec<Cidr> =
            ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap()).into();
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: &[Case] = &[
            ("203.0.113.1", &[("x-forwarded-for", "1.1.1.1")], "203.0.113.1"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")], "1.1.1.1"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")],
                "1.1.1.1",
            ),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.9")], "10.0.0.9"),
            (
                "10.0.0.1",
                &[("forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https")],
                "2001:db8::7",
            ),
            (
                "10.0.0.1",
                &[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "6.6.6.6")],
                "1.1.1.1",
            ),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "1.1.1.1:5000")], "1.1.1.1"),
        ];
        for (peer, pairs, wanted) in cases {
            let found = client_address(peer.parse().unwrap(), &headers(pairs), &trusted);
            assert_eq!(found, wanted.parse::<IpAddr>().unwrap(), "{peer} {pairs:?}");
        }
        let untrusting = client_address(
            "10.0.0.1".parse().unwrap(),
            &headers(&[("x-forwarded-for", "1.1.1.1")]),
            &[],
        );
        assert_eq!(untrusting, "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_a_trusted_proxy_may_say_that_a_connection_is_encrypted() {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap()];
        let https = headers(&[("x-forwarded-proto", "https")]);
        assert!(is_secure("10.0.0.1".parse().unwrap(), false, &https, &trusted));
        assert!(!is_secure("203.0.113.1".parse().unwrap(), false, &https, &trusted));
        assert!(is_secure("203.0.113.1".parse().unwrap(), true, &headers(&[]), &trusted));
        // What the proxy appended counts, not what came with the request.
        let forged = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")];
        assert!(!is_secure("10.0.0.1".parse().unwrap(), false, &headers(&forged), &trusted));
    }
}
