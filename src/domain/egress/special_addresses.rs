//! IP addresses that are not public, and the name of each kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The metadata services of clouds, which give credentials to any client in the network. Azure's address is public.
const METADATA: [IpAddr; 11] = [
    // AWS, Google, Azure and others.
    v4([169, 254, 169, 254]),
    // Container and pod credentials (ECS, EKS).
    v4([169, 254, 170, 2]),
    v4([169, 254, 170, 23]),
    // Tencent, Scaleway.
    v4([169, 254, 0, 23]),
    v4([169, 254, 42, 42]),
    // Alibaba.
    v4([100, 100, 100, 200]),
    // Oracle.
    v4([192, 0, 0, 192]),
    // Azure.
    v4([168, 63, 129, 16]),
    // EC2, EKS, Google.
    v6(0xfd00_0ec2_0000_0000_0000_0000_0000_0254),
    v6(0xfd00_0ec2_0000_0000_0000_0000_0000_0023),
    v6(0xfd20_00ce_0000_0000_0000_0000_0000_0254),
];

const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// Whether the address is the metadata service of a cloud provider, such as 169.254.169.254.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
}

/// The kind of an address that is not public, such as "a private address"; `None`: it is public. The address must not
/// be IPv4-mapped.
///
/// The kinds are those of IANA's special-purpose addresses (RFC 6890). In IPv6 only global unicast is public (RFC 4291,
/// 2.4), and the well-known NAT64 prefix with a public IPv4 address (RFC 6052, 2.1).
pub(crate) fn kind_of(address: IpAddr) -> Option<&'static str> {
    if is_metadata(address) {
        return Some("a cloud's metadata service, which only its own address allows");
    }
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

/// Like [`kind_of`], without the metadata services.
fn kind_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (127, ..) => Some("a loopback address"),
        (169, 254, _) => Some("a link-local address"),
        (100, 64..=127, _) => Some("a carrier-grade NAT address"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("a documentation address"),
        (198, 18..=19, _) => Some("a benchmarking address"),
        (192, 0, 0) => Some("an address reserved for protocols"),
        (192, 88, 99) => Some("a 6to4 relay address"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved or broadcast address"),
        _ => None,
    }
}

/// Like [`kind_of`], without the metadata services.
fn kind_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0, ..] => Some("an IPv4-compatible address"),
        [0, 0, 0, 0, 0xffff, 0, ..] => Some("an IPv4-translated address"),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            kind_of(IpAddr::V4(embedded_ipv4(address).unwrap_or(Ipv4Addr::UNSPECIFIED)))
        }
        [0x64, 0xff9b, 1, ..] => Some("a local NAT64 address"),
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some("an ISATAP address"),
        [0x2001, 0, ..] => Some("a Teredo address"),
        [0x2001, 2, 0, ..] => Some("a benchmarking address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a documentation address"),
        [0x2001, 0..=0x1ff, ..] => Some("an address reserved for protocols"),
        [0x2002, ..] => Some("a 6to4 address"),
        [0x100, 0, 0, ..] => Some("a discard-only address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xfc00..=0xfdff, ..] => Some("a unique-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("no global unicast address"),
    }
}

/// The IPv4 address inside an IPv6 address of a translator (such as NAT64) or a tunnel (6to4, ISATAP, Teredo).
pub(crate) fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [high, low] = match address.segments() {
        // Compatible (RFC 4291, 2.5.5.1) and translated (RFC 2765, 2.1).
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low]
        // NAT64 (RFC 6052, 2.1; RFC 8215).
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // ISATAP (RFC 5214, 6.1).
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low]
        // 6to4 (RFC 3056, 2).
        | [0x2002, high, low, ..] => [high, low],
        // Teredo, with inverted bits (RFC 4380, 4).
        [0x2001, 0, _, _, _, _, high, low] => [!high, !low],
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::egress::callback_url::CallbackUrl;
    use crate::domain::egress::policy::Targets;

    /// An independent list: the networks of IANA's registries, and those without a registry.
    const REFUSED: [&str; 39] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "4000::/3",
        "6000::/3",
        "8000::/3",
        "a000::/3",
        "c000::/3",
        "e000::/4",
        "f000::/5",
        "f800::/6",
        "fc00::/7",
        "fe00::/9",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "5f00::/16",
        "1000::/4",
    ];

    fn is_listed(address: IpAddr) -> bool {
        let real = address.to_canonical();
        let listed =
            REFUSED.iter().any(|net| net.parse::<IpNet>().expect("a network").contains(&real));
        let carried = match real {
            IpAddr::V6(v6) if v6.octets().starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0]) => {
                let [.., a, b, c, d] = v6.octets();
                is_listed(IpAddr::from([a, b, c, d]))
            }
            _ => false,
        };
        listed || carried
    }

    /// Addresses near those on the list; random ones would rarely be near.
    fn address() -> impl Strategy<Value = IpAddr> {
        let within = |net: &str, host: u128| match net.parse::<IpNet>().expect("a network") {
            IpNet::V4(net) => {
                let host = u32::try_from(host & u128::from(u32::MAX)).expect("32 bits");
                IpAddr::from(Ipv4Addr::from_bits(
                    u32::from(net.network()) ^ (host & !u32::from(net.netmask())),
                ))
            }
            IpNet::V6(net) => IpAddr::from(Ipv6Addr::from_bits(
                u128::from(net.network()) ^ (host & !u128::from(net.netmask())),
            )),
        };
        let flipped = |address: IpAddr, bit: u32| match address {
            IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() ^ (1 << (bit % 32)))),
            IpAddr::V6(v6) => IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() ^ (1 << bit))),
        };
        let near = (0..REFUSED.len(), any::<u128>(), proptest::option::of(0..128_u32)).prop_map(
            move |(index, host, bit)| {
                let address = within(REFUSED[index], host);
                bit.map_or(address, |bit| flipped(address, bit))
            },
        );
        prop_oneof![
            4 => near.clone(),
            1 => any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            1 => any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
            // The same through NAT64, and IPv4-mapped.
            2 => (near, any::<bool>()).prop_map(|(address, nat64)| match (address, nat64) {
                (IpAddr::V4(v4), false) => IpAddr::from(v4.to_ipv6_mapped()),
                (IpAddr::V4(v4), true) => {
                    IpAddr::from(Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(v4.to_bits())))
                }
                (other, _) => other,
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn no_public_address_is_within_a_special_range(address in address()) {
            let real = address.to_canonical();
            prop_assert!(
                kind_of(real).is_some() || !is_listed(address),
                "{address} counts as public"
            );
        }

        #[test]
        fn an_address_outside_the_special_ranges_is_public(address in address()) {
            let real = address.to_canonical();
            let others = is_metadata(real) || kind_of(real) == Some("an ISATAP address");
            let carried = matches!(real, IpAddr::V6(v6) if v6.segments()[..2] == [0x64, 0xff9b]);
            let outside = matches!(real, IpAddr::V6(v6) if v6.segments()[0] < 0x1000) && !carried;
            prop_assume!(!others && !outside);
            prop_assert!(
                kind_of(real).is_none() || is_listed(address) || carried,
                "{address} is refused as {:?}", kind_of(real)
            );
        }
    }

    /// A part of an IPv4 address in one of the notations of a URL (WHATWG URL, 3.5).
    fn spelled(number: u32, spelling: u8) -> String {
        match spelling % 5 {
            0 => format!("{number}"),
            1 => format!("0{number:o}"),
            2 => format!("0x{number:x}"),
            3 => format!("0X{number:08X}"),
            _ => format!("{number}").chars().map(full_width).collect(),
        }
    }

    fn full_width(digit: char) -> char {
        char::from_u32(u32::from(digit) - u32::from('0') + 0xff10).expect("a digit")
    }

    /// An IPv4 address in one to four parts; the last part contains the remaining bits.
    fn written(address: Ipv4Addr, parts: usize, spelling: [u8; 4]) -> String {
        let octets = address.octets();
        let last = address.to_bits() & (u32::MAX >> (8 * (parts - 1)));
        let numbers = octets[..parts - 1].iter().map(|octet| u32::from(*octet)).chain([last]);
        let spelled = numbers.zip(spelling).map(|(number, spelling)| spelled(number, spelling));
        spelled.collect::<Vec<_>>().join(".")
    }

    fn is_accepted(url: &str) -> Option<CallbackUrl> {
        let url: CallbackUrl = url.parse().ok()?;
        Targets::default().check_url(&url).ok().map(|()| url)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_048))]

        #[test]
        fn no_url_of_a_special_address_is_accepted_in_any_spelling(
            address in address(),
            parts in 1..=4_usize,
            spelling in any::<[u8; 4]>(),
            dot in any::<bool>(),
        ) {
            let host = match address {
                IpAddr::V4(v4) => written(v4, parts, spelling),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let url = format!("http://{host}{}/", if dot && address.is_ipv4() { "." } else { "" });
            let accepted = is_accepted(&url);
            prop_assert!(accepted.is_none() || !is_listed(address), "{url} is accepted");
            if let Some(url) = accepted {
                let real = url.literal_address().map(|literal| literal.to_canonical());
                prop_assert_eq!(real, Some(address.to_canonical()), "it is read as another");
            } else if address.is_ipv4() {
                prop_assert!(kind_of(address).is_some(), "{} is refused", url);
            }
        }

        #[test]
        fn every_accepted_host_has_a_public_address(
            host in "[0-9a-fxA-FX.:\\[\\]%@#?/\\\\ \u{ff10}-\u{ff19}\u{3002}\u{ad}-]{1,40}",
        ) {
            if let Some(url) = is_accepted(&format!("http://{host}/")) {
                let literal = url.literal_address();
                prop_assert!(!literal.is_some_and(is_listed), "{host:?} is {literal:?}");
            }
        }
    }

    #[test]
    fn a_translated_ipv4_address_is_found() {
        let carried = |text: &str| embedded_ipv4(text.parse().unwrap()).map(|v4| v4.to_string());
        for text in [
            "::10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1::10.1.2.3",
            "2002:a01:203::1",
            "2a00:1::5efe:10.1.2.3",
            "2001:0:4136:e378:8000:63bf:f5fe:fdfc",
        ] {
            assert_eq!(carried(text).as_deref(), Some("10.1.2.3"), "{text}");
        }
        assert_eq!(carried("2606:4700::1111"), None);
    }
}
