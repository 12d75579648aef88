//! The syntax of the operator's lists of networks, host names and ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use url::Host;

use super::special_addresses::embedded_ipv4;

/// Networks and host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetList {
    networks: Vec<IpNet>,
    hosts: Vec<HostPattern>,
}

/// Host names in lower case and punycode, as in a parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Is(String),
    /// Every subdomain. The text starts with a dot: `.example.com`.
    Below(String),
}

impl TargetList {
    /// Comma-separated: networks (CIDR), addresses, names, `*.` and a name. The error is the element that is none.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut targets = Self { networks: Vec::new(), hosts: Vec::new() };
        for part in parts(list) {
            match (network(part), host_pattern(part)) {
                (Some(network), _) => targets.networks.push(network),
                (None, Some(host)) => targets.hosts.push(host),
                (None, None) => return Err(part.to_owned()),
            }
        }
        Ok(targets)
    }

    /// `host` must be in lower case and punycode, without a trailing dot. A `*.` entry covers every domain below it.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern {
            HostPattern::Is(name) => host == name,
            HostPattern::Below(ending) => host.ends_with(ending) && host.len() > ending.len(),
        })
    }

    /// Whether a network contains `address` or the IPv4 address inside it, as in NAT64 and tunnels.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        let real = address.to_canonical();
        let carried = match real {
            IpAddr::V6(address) => embedded_ipv4(address).map(IpAddr::from),
            IpAddr::V4(_) => None,
        };
        let within = |address: &IpAddr| self.networks.iter().any(|net| net.contains(address));
        within(&real) || carried.as_ref().is_some_and(within)
    }

    pub(crate) fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }
}

/// Parses a comma-separated list of networks (CIDR) and addresses. The error is the list element that is neither.
pub(crate) fn networks(list: &str) -> Result<Vec<IpNet>, String> {
    parts(list).map(|part| network(part).ok_or_else(|| part.to_owned())).collect()
}

/// Splits a comma-separated list. Spaces around an element are removed, and empty elements are omitted.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A network (CIDR) or an address; an IPv4-mapped IPv6 network becomes the IPv4 network.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet =
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, length)) => Ipv4Net::new(address, length).ok().map(IpNet::from),
        None => Some(network),
    }
}

/// Parses a host name, or `*.` and a host name for all its subdomains. `None`: the text is neither.
fn host_pattern(text: &str) -> Option<HostPattern> {
    let name = |text: &str| match Host::parse(text.trim_end_matches('.')).ok()? {
        Host::Domain(name) if !name.contains('*') => Some(name),
        _ => None,
    };
    match text.strip_prefix("*.") {
        Some(above) => name(above).map(|above| HostPattern::Below(format!(".{above}"))),
        None => name(text).map(HostPattern::Is),
    }
}

/// Ports and ranges of ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortList(Vec<RangeInclusive<u16>>);

impl PortList {
    /// Comma-separated ports (1 to 65535) and ranges (`8000-8999`). The error is the element that is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
        let range = |part: &str| {
            let (lowest, highest) = part.split_once('-').unwrap_or((part, part));
            let range = port(lowest)?..=port(highest)?;
            (!range.is_empty()).then_some(range)
        };
        let ranges = parts(list).map(|part| range(part).ok_or_else(|| part.to_owned()));
        ranges.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn has(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_pattern_names_one_host_or_all_subdomains() {
        let list = TargetList::parse("Hooks.Example.com., *.Bücher.example").unwrap();
        for named in ["hooks.example.com", "a.xn--bcher-kva.example", "a.b.xn--bcher-kva.example"] {
            assert!(list.names(named), "{named}");
        }
        for other in [
            "example.com",
            "a.hooks.example.com",
            "xn--bcher-kva.example",
            ".xn--bcher-kva.example",
            "axn--bcher-kva.example",
        ] {
            assert!(!list.names(other), "{other}");
        }
    }

    #[test]
    fn a_network_contains_its_addresses_in_every_notation() {
        let list = TargetList::parse("8.8.8.0/24, ::ffff:9.9.0.0/112, 2606:4700::/32").unwrap();
        for address in [
            "8.8.8.8",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "9.9.255.1",
            "2606:4700::1111",
        ] {
            assert!(list.covers(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.9.8", "9.8.0.1", "64:ff9b::8.8.9.8", "2606:4701::1"] {
            assert!(!list.covers(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_invalid_part_is_named() {
        for (list, bad) in [
            ("10.0.0.0/99", "10.0.0.0/99"),
            ("a.example, *", "*"),
            ("*.*.example", "*.*.example"),
            ("https://a.example", "https://a.example"),
            ("a.example:443", "a.example:443"),
            ("127.1", "127.1"),
        ] {
            assert_eq!(TargetList::parse(list).unwrap_err(), bad, "{list}");
        }
        for bad in ["0", "65536", "x", "9-8", "1-", "-1", "1-2-3"] {
            assert_eq!(PortList::parse(bad).unwrap_err(), bad);
        }
    }

    #[test]
    fn ports_are_single_or_ranges() {
        let list = PortList::parse("22, 8000-8999,").unwrap();
        assert!([22, 8000, 8500, 8999].into_iter().all(|port| list.has(port)));
        assert!(![21, 23, 7999, 9000].into_iter().any(|port| list.has(port)));
    }
}
