//! Which addresses a callback may reach: public ones, and what the operator allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that callbacks may reach although they are private (`HOOKHUB_ALLOW_TARGETS`).
#[derive(Debug, Clone, Default)]
pub struct AllowedTargets(Vec<IpNet>);

/// An address that a callback may not reach, and the rule that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {rule}; an operator can allow it with HOOKHUB_ALLOW_TARGETS")]
pub struct Blocked {
    /// The address that was refused.
    pub address: IpAddr,
    /// What kind of address it is.
    pub rule: &'static str,
}

impl AllowedTargets {
    /// Reads a comma-separated list of CIDRs or single addresses; the error is the part that is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| {
                part.parse::<IpNet>()
                    .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_neither| part.into())
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Decides whether a callback may connect to `address`.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let real = address.to_canonical();
        match refused(real) {
            Some(rule) if !self.0.iter().any(|net| net.contains(&real)) => {
                Err(Blocked { address, rule })
            }
            _ => Ok(()),
        }
    }
}

fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (127, ..) => Some("a loopback address"),
        (169, 254, _) => Some("a link-local address"),
        (100, 64..=127, _) => Some("a carrier-grade NAT address"),
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (198, 18..=19, _) => {
            Some("an address set aside for special use")
        }
        (192, 88, 99) => Some("a 6to4 relay address"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved or broadcast address"),
        _ => None,
    }
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        refused_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, ..] => Some("an IPv4-compatible address"),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some("a local NAT64 address"),
        [0x2001, 0, ..] => Some("a Teredo address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a documentation address"),
        [0x100, 0, 0, 0, ..] => Some("a discard-only address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xfc00..=0xfdff, ..] => Some("a unique-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("no global unicast address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &str, address: &str) -> bool {
        AllowedTargets::parse(list).unwrap().check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_public_addresses_are_reached_by_default() {
        for public in
            ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(allowed("", public), "{public}");
        }
        for refused in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "::ffff:0:127.0.0.1",
            "5f00::1",
            "4000::1",
            "2002:7f00:1::",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!allowed("", refused), "{refused}");
        }
    }

    #[test]
    fn an_operator_opens_just_what_they_name() {
        assert!(allowed("127.0.0.0/8, 10.1.2.3", "127.9.9.9"));
        assert!(
            allowed("127.0.0.0/8", "::ffff:127.0.0.1"),
            "a mapped address is the address it maps to"
        );
        assert!(allowed("127.0.0.0/8, 10.1.2.3", "10.1.2.3"));
        assert!(!allowed("127.0.0.0/8, 10.1.2.3", "10.1.2.4"));
        assert_eq!(AllowedTargets::parse("127.0.0.0/8,home").unwrap_err(), "home");
    }
}
