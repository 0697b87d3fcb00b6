//! Which addresses are not to be reached: everything that the registries of IANA call
//! special, for both families, and what carries such an address within another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::cidr::Cidr;

/// IANA IPv4 Special-Purpose Address Registry, and multicast.
const SPECIAL_V4: [([u8; 4], u8); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    // 203.0.113.0/24, and from 224.0.0.0 on below.
    ([203, 0, 113, 0], 24),
];

/// Whether an address may be reached.
pub fn may_reach(address: IpAddr, allowed: &[Cidr]) -> bool {
    allowed.iter().any(|range| range.contains(address)) || !is_special(address)
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    // Multicast, reserved and broadcast.
    if bits >= 0xe000_0000 {
        return true;
    }
    SPECIAL_V4.iter().any(|(network, length)| {
        let mask = u32::MAX << (32 - u32::from(*length));
        bits & mask == u32::from(Ipv4Addr::from(*network))
    })
}

/// Only what was given out for the internet at large (2000::/3) is reached, less what
/// is special within it.
fn is_special_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_special_v4(inner);
    }
    let parts = address.segments();
    let ipv4_of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        // NAT64: the IPv4 address is the last part.
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => is_special_v4(ipv4_of(high, low)),
        // 6to4: it follows the prefix.
        [0x2002, high, low, ..] => is_special_v4(ipv4_of(high, low)),
        // Teredo, benchmarking, ORCHID and the rest of 2001::/23; documentation.
        [0x2001, second, ..] if second < 0x0200 => true,
        [0x2001, 0x0db8, ..] => true,
        [0x3fff, second, ..] if second < 0x1000 => true,
        [0x2620, 0x004f, 0x8000, ..] => true,
        [first, ..] => !(0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes of advisories on server-side requests (Keycloak CVE-2026-1180,
    /// Zitadel CVE-2024-49753, CVE-2026-55671): special ranges, and other ways to write
    /// them.
    #[test]
    fn special_addresses_are_not_reached() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!may_reach(text.parse().unwrap(), &[]), "{text}");
        }
    }

    #[test]
    fn the_internet_is_reached() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450:4001::1",
            "2002:808:808::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(may_reach(text.parse().unwrap(), &[]), "{text}");
        }
    }

    #[test]
    fn what_an_operator_allows_is_reached_and_nothing_beside_it() {
        let allowed = ["10.1.0.0/16".parse().unwrap(), "::1".parse().unwrap()];
        let may = |text: &str| may_reach(text.parse().unwrap(), &allowed);
        assert!(may("10.1.2.3") && may("::ffff:10.1.2.3") && may("::1"));
        assert!(!may("10.2.0.1") && !may("127.0.0.1") && !may("::2"));
    }
}
