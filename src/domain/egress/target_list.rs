//! Lists of networks, host names and ports, as an operator writes them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use url::Host;

use super::special_addresses::carried_by;

/// Networks and host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetList {
    networks: Vec<IpNet>,
    hosts: Vec<HostPattern>,
}

/// Names of hosts, in the form that URLs are brought to: lower case, punycode.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// This one.
    Is(String),
    /// All below this one, which is kept with its dot: `.example.com`.
    Below(String),
}

impl TargetList {
    /// Reads a comma-separated list of CIDRs, addresses, host names, and `*.` with a host name for all below it. The
    /// error is the part that is none of them.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut read = Self { networks: Vec::new(), hosts: Vec::new() };
        for part in parts(list) {
            match (network(part), host_pattern(part)) {
                (Some(network), _) => read.networks.push(network),
                (None, Some(host)) => read.hosts.push(host),
                (None, None) => return Err(part.to_owned()),
            }
        }
        Ok(read)
    }

    /// Whether a host is named. `host` is as a URL has it, without a dot at its end.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern {
            HostPattern::Is(name) => host == name,
            HostPattern::Below(ending) => host.ends_with(ending) && host.len() > ending.len(),
        })
    }

    /// Whether an address is within one of the networks, or the IPv4 address is that it leads to.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        let real = address.to_canonical();
        let carried = match real {
            IpAddr::V6(address) => carried_by(address).map(IpAddr::from),
            IpAddr::V4(_) => None,
        };
        let within = |address: &IpAddr| self.networks.iter().any(|net| net.contains(address));
        within(&real) || carried.as_ref().is_some_and(within)
    }

    /// Whether there is any network in it.
    pub(crate) fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }
}

/// Reads a comma-separated list of CIDRs or single addresses; the error is the part that is neither.
pub(crate) fn networks(list: &str) -> Result<Vec<IpNet>, String> {
    parts(list).map(|part| network(part).ok_or_else(|| part.to_owned())).collect()
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A CIDR or an address; an IPv4 network that is written as a mapped one is that IPv4 network.
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

/// Ports and ranges of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortList(Vec<RangeInclusive<u16>>);

impl PortList {
    /// Reads a comma-separated list of ports (1 to 65535) and ranges (`8000-8999`). The error is the part that is
    /// neither.
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

    /// Whether a port is on it.
    pub(crate) fn has(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_one_by_one_or_all_below_one() {
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
    fn a_network_holds_all_forms_of_its_addresses() {
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
    fn what_is_neither_is_named() {
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
    fn ports_are_named_one_by_one_or_as_ranges() {
        let list = PortList::parse("22, 8000-8999,").unwrap();
        assert!([22, 8000, 8500, 8999].into_iter().all(|port| list.has(port)));
        assert!(![21, 23, 7999, 9000].into_iter().any(|port| list.has(port)));
    }
}
