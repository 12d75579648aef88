//! The client address behind reverse proxies: `X-Forwarded-For`, and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use super::networks::Networks;

/// The proxies whose header names the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// The addresses of the trusted proxies. The header of any other peer is ignored.
    pub networks: Networks,
    /// The header that the proxies write. They may forward the other one from a client, so it is ignored.
    pub header: ProxyHeader,
}

/// A header to which a proxy appends the address of its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: 192.0.2.1, 2001:db8::1`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.1, for="[2001:db8::1]:4711"`.
    Forwarded,
}

impl ProxyHeader {
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl TrustedProxies {
    /// Returns the client's address: `peer`, the other end of the connection, unless that is a trusted proxy. `lines`:
    /// all values of the proxies' header, in order.
    ///
    /// Reads the addresses from the last to the first, and returns the first that is not a trusted proxy's. If an
    /// address is invalid or none is left, returns the address that was read before.
    pub fn client(&self, peer: IpAddr, lines: &[&[u8]]) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut hops = lines.iter().rev().flat_map(|line| FromTheEnd { line: Some(line) });
        while self.networks.contain(client) {
            let Some(address) = hops.next().and_then(|hop| self.address(hop)) else { break };
            client = address.to_canonical();
        }
        client
    }

    /// Parses the address in one element: in `X-Forwarded-For` the whole element, in `Forwarded` the value of `for=`.
    fn address(&self, hop: &[u8]) -> Option<IpAddr> {
        let hop = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
        match self.header {
            ProxyHeader::XForwardedFor => address(hop),
            ProxyHeader::Forwarded => address(forwarded_for(hop)?),
        }
    }
}

/// The elements of a list, last first. Commas within quotes separate nothing. Reading starts at the end, which a
/// trusted proxy wrote, so an unbalanced quote of a client cannot hide the proxy's element.
struct FromTheEnd<'a> {
    line: Option<&'a [u8]>,
}

impl<'a> Iterator for FromTheEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.line.take()?;
        let mut quoted = false;
        for (at, byte) in line.iter().enumerate().rev() {
            let (before, rest) = line.split_at_checked(at)?;
            match byte {
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    self.line = Some(before);
                    return rest.split_first().map(|(_comma, element)| element);
                }
                _ => {}
            }
        }
        Some(line)
    }
}

/// The value of `for=` without quotes (RFC 7239, section 4). `None`: missing or repeated.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut named = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let (node, None) = (named.next()?, named.next()) else { return None };
    match node.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(node),
    }
}

/// Parses an address with or without a port; IPv6 may be in brackets (RFC 7239, section 6).
fn address(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let plain = node.parse().ok().or_else(bracketed);
    plain.or_else(|| node.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn client(header: ProxyHeader, peer: &str, lines: &[&str]) -> String {
        let proxies =
            TrustedProxies { networks: Networks::parse("10.0.0.0/8,fd00::/8").unwrap(), header };
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        proxies.client(peer.parse().unwrap(), &lines).to_string()
    }

    fn by_list(peer: &str, lines: &[&str]) -> String {
        client(ProxyHeader::XForwardedFor, peer, lines)
    }

    fn by_forwarded(lines: &[&str]) -> String {
        client(ProxyHeader::Forwarded, PROXY, lines)
    }

    #[test]
    fn the_header_of_an_untrusted_peer_is_ignored() {
        assert_eq!(by_list("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client(ProxyHeader::Forwarded, "192.0.2.1", &["for=198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn behind_trusted_proxies_the_client_is_the_last_untrusted_address() {
        assert_eq!(by_list(PROXY, &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(by_list("::ffff:10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(by_list(PROXY, &["198.51.100.7, 192.0.2.1, 10.9.9.9"]), "192.0.2.1");
        assert_eq!(by_list(PROXY, &["198.51.100.7", "192.0.2.1", "10.9.9.9,fd00::1"]), "192.0.2.1");
        assert_eq!(by_list(PROXY, &[]), PROXY);
        assert_eq!(by_list(PROXY, &["10.3.3.3, 10.2.2.2"]), "10.3.3.3");
    }

    #[test]
    fn every_notation_of_an_address_is_parsed() {
        for form in ["192.0.2.1", " 192.0.2.1\t", "192.0.2.1:4711", "::ffff:192.0.2.1"] {
            assert_eq!(by_list(PROXY, &[form]), "192.0.2.1", "{form}");
        }
        for form in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711"] {
            assert_eq!(by_list(PROXY, &[form]), "2001:db8::1", "{form}");
        }
        for form in ["for=192.0.2.1", "proto=http; FOR=\"192.0.2.1:80\" ;by=10.0.0.1"] {
            assert_eq!(by_forwarded(&[form]), "192.0.2.1", "{form}");
        }
        assert_eq!(by_forwarded(&["for=192.0.2.9, for=\"[2001:db8::1]:4711\""]), "2001:db8::1");
    }

    #[test]
    fn everything_before_an_invalid_address_is_ignored() {
        for hidden in ["unknown", "_hidden", "", "192.0.2.1:http", "[192.0.2.1]", "\u{e9}"] {
            assert_eq!(by_list(PROXY, &[&format!("192.0.2.1,{hidden}")]), PROXY, "{hidden}");
            let forwarded = format!("for=192.0.2.1,for={hidden}");
            assert_eq!(by_forwarded(&[&forwarded]), PROXY, "{hidden}");
        }
        for odd in ["by=192.0.2.1", "for=192.0.2.1;for=192.0.2.2", "192.0.2.1", "for=\"192.0.2.1"] {
            assert_eq!(by_forwarded(&[odd]), PROXY, "{odd}");
        }
    }

    #[test]
    fn an_unbalanced_quote_of_a_client_hides_nothing() {
        for made_up in ["for=\"", "for=\"198.51.100.7, for=\\\"", "\"\"\"", "host=\","] {
            let line = format!("{made_up}, for=192.0.2.1;host=\"a,b\"");
            assert_eq!(by_forwarded(&[&line]), "192.0.2.1", "{made_up}");
        }
    }

    proptest! {
        #[test]
        fn nothing_before_the_last_untrusted_address_changes_the_client(
            made_up in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
            by_name in any::<bool>(),
            untrusted in any::<[u8; 16]>().prop_map(IpAddr::from),
        ) {
            let header = if by_name { ProxyHeader::Forwarded } else { ProxyHeader::XForwardedFor };
            let networks = Networks::parse("10.0.0.0/8").unwrap();
            prop_assume!(!networks.contain(untrusted));
            let proxies = TrustedProxies { networks, header };
            let appended = match header {
                ProxyHeader::Forwarded => format!("for=\"[{untrusted}]\""),
                ProxyHeader::XForwardedFor => untrusted.to_string(),
            };
            let line = [made_up.concat(), appended.clone().into_bytes()].join(b", ".as_slice());
            let mut lines = made_up.clone();
            lines.push(line);
            let peer = PROXY.parse().unwrap();
            let client = |lines: &[Vec<u8>]| {
                let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
                proxies.client(peer, &lines)
            };
            prop_assert_eq!(client(&lines), untrusted.to_canonical());
            // The same on a separate line.
            lines = made_up;
            lines.push(appended.into_bytes());
            prop_assert_eq!(client(&lines), untrusted.to_canonical());
        }

        #[test]
        fn any_bytes_yield_the_peer_or_an_address_in_the_header(
            lines in proptest::collection::vec("[ -~\t]{0,60}|([0-9.:\\[\\]for=\", ]|10\\.1\\.1\\.1){0,20}", 0..4),
            by_name in any::<bool>(),
        ) {
            let header = if by_name { ProxyHeader::Forwarded } else { ProxyHeader::XForwardedFor };
            let proxies = TrustedProxies { networks: Networks::parse("10.0.0.0/8").unwrap(), header };
            let peer: IpAddr = PROXY.parse().unwrap();
            let values: Vec<_> = lines.iter().map(String::as_bytes).collect();
            let client = proxies.client(peer, &values);
            let is_in_header = |address: IpAddr| {
                let parts = lines.iter().flat_map(|line| line.split([',', ';', '"', '=', ' ', '\t']));
                parts.filter_map(super::address).any(|found| found.to_canonical() == address)
            };
            prop_assert!(client == peer || is_in_header(client), "{client}");
        }
    }
}
