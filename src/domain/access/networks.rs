//! Lists of networks, and the network that counts as one client.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::domain::egress::target_list;

/// A list of networks, empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Parses a comma-separated list of networks (CIDR) and addresses. The error is the list element that is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        target_list::networks(list).map(Self)
    }

    /// An IPv4-mapped IPv6 address counts as its IPv4 address (RFC 4291, 2.5.5.2).
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address under which rate limits count a client: for IPv6 the first of its /64, which one site owns (RFC 6177).
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_contains_exactly_the_addresses_of_its_networks() {
        let networks = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/32").unwrap();
        let within = |address: &str| networks.contain(address.parse().unwrap());
        for address in ["10.1.2.3", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3"] {
            assert!(within(address), "{address}");
        }
        for address in ["11.0.0.0", "192.0.2.8", "2001:db9::1", "::ffff:11.0.0.0"] {
            assert!(!within(address), "{address}");
        }
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_invalid_network_is_named() {
        assert_eq!(Networks::parse("10.0.0.0/8,home").unwrap_err(), "home");
        assert_eq!(Networks::parse("10.0.0.0/33").unwrap_err(), "10.0.0.0/33");
        assert_eq!(Networks::parse(" , ").unwrap(), Networks::default());
    }
}
