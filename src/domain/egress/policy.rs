//! The targets that outgoing requests may reach: public addresses and those the operator allows, without those the
//! operator denies.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::callback_url::CallbackUrl;
use super::proxy::EgressProxy;
use super::special_addresses::{embedded_ipv4, is_metadata, kind_of};
use super::target_list::{PortList, TargetList, networks};

/// The "bad ports" of the WHATWG Fetch standard, "Port blocking", sorted: servers of other protocols could misread a
/// POST.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
];

/// Why the policy forbids a target. The text names the setting to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The host of the URL is an address that is not public.
    #[error("{0} is {1}; an operator can open it with HOOKHUB_ALLOW_TARGETS")]
    Address(IpAddr, &'static str),
    /// The host resolves to an address that is not public. The error omits the address, which may be confidential.
    #[error("{0} leads to {1}; an operator can open it with HOOKHUB_ALLOW_TARGETS")]
    LeadsTo(String, &'static str),
    #[error("{0} is among the targets that the operator closed with HOOKHUB_DENY_TARGETS")]
    Denied(String),
    #[error("{0} is not among the targets that the operator keeps to with HOOKHUB_ONLY_TARGETS")]
    Unlisted(String),
    #[error(
        "port {0} is another protocol's (WHATWG Fetch, port blocking); an operator can open it with HOOKHUB_ALLOW_PORTS"
    )]
    Port(u16),
    #[error("port {0} is not among the ports that the operator keeps to with HOOKHUB_ONLY_PORTS")]
    PortUnlisted(u16),
    #[error("the scheme is http, and the operator keeps to https with HOOKHUB_HTTPS_ONLY")]
    NotHttps,
}

/// Networks that are allowed although they are not public (`HOOKHUB_ALLOW_TARGETS`).
#[derive(Debug, Clone, Default)]
pub struct AllowedTargets(Vec<IpNet>);

impl AllowedTargets {
    /// Parses a comma-separated list of networks (CIDR) and addresses. The error is the list element that is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        networks(list).map(Self)
    }

    /// Fails if `address` is neither public nor on this list. Other rules are not checked.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let real = address.to_canonical();
        match kind_of(real) {
            Some(kind) if !self.allows(real) => Err(Blocked::Address(address, kind)),
            _ => Ok(()),
        }
    }

    /// `real` must not be IPv4-mapped. A cloud's metadata service must be listed by its exact address.
    fn allows(&self, real: IpAddr) -> bool {
        let carried = match real {
            IpAddr::V6(address) => embedded_ipv4(address).map(IpAddr::from),
            IpAddr::V4(_) => None,
        };
        let is_metadata = is_metadata(real) || carried.is_some_and(is_metadata);
        let is_explicit = |net: &IpNet| !is_metadata || net.prefix_len() == net.max_prefix_len();
        self.0.iter().any(|net| net.contains(&real) && is_explicit(net))
    }
}

/// The rules for every request to a receiver or a token endpoint.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    pub targets: Targets,
    /// `HOOKHUB_EGRESS_PROXY`. `None`: the hub connects to receivers directly.
    pub proxy: Option<EgressProxy>,
}

#[derive(Debug, Clone, Default)]
pub struct Targets {
    pub allow: AllowedTargets,
    /// Forbidden in any case (`HOOKHUB_DENY_TARGETS`).
    pub deny: Option<TargetList>,
    /// If set, every other target is forbidden; it allows no private address (`HOOKHUB_ONLY_TARGETS`).
    pub only: Option<TargetList>,
    /// Ports of other protocols that are allowed nevertheless (`HOOKHUB_ALLOW_PORTS`).
    pub allow_ports: PortList,
    /// If set, every other port is forbidden (`HOOKHUB_ONLY_PORTS`).
    pub only_ports: Option<PortList>,
    /// `HOOKHUB_HTTPS_ONLY`.
    pub https_only: bool,
}

impl Targets {
    /// Fails if the rules forbid the URL. Checks what needs no DNS lookup: scheme, port, host name, literal address.
    pub fn check_url(&self, url: &CallbackUrl) -> Result<(), Blocked> {
        if self.https_only && url.url().scheme() != "https" {
            return Err(Blocked::NotHttps);
        }
        self.check_port(url.port())?;
        match url.literal_address() {
            Some(address) => self.check_address(url.host(), address),
            None => self.check_name(url.host()),
        }
    }

    /// Fails if `port` is not on the operator's list, or belongs to a protocol other than HTTP and is not allowed.
    fn check_port(&self, port: u16) -> Result<(), Blocked> {
        if self.only_ports.as_ref().is_some_and(|only| !only.has(port)) {
            return Err(Blocked::PortUnlisted(port));
        }
        if BAD_PORTS.binary_search(&port).is_ok() && !self.allow_ports.has(port) {
            return Err(Blocked::Port(port));
        }
        Ok(())
    }

    /// Checks a name before its DNS lookup. If `only` has networks, a name that it does not list passes here, and
    /// [`Self::check_address`] decides.
    fn check_name(&self, host: &str) -> Result<(), Blocked> {
        let excludes = |only: &TargetList| !only.names(host) && !only.has_networks();
        if self.deny.as_ref().is_some_and(|deny| deny.names(host)) {
            return Err(Blocked::Denied(host.to_owned()));
        }
        if self.only.as_ref().is_some_and(excludes) {
            return Err(Blocked::Unlisted(host.to_owned()));
        }
        Ok(())
    }

    /// Checks the address that `host` leads to: the lists of targets, and whether the address is public.
    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Blocked> {
        let on = |list: &TargetList| list.names(host) || list.covers(address);
        if self.deny.as_ref().is_some_and(on) {
            return Err(Blocked::Denied(host.to_owned()));
        }
        if self.only.as_ref().is_some_and(|only| !on(only)) {
            return Err(Blocked::Unlisted(host.to_owned()));
        }
        self.allow.check(address)
    }

    /// Returns the allowed addresses in their order, and why the last forbidden one is forbidden, if any is.
    pub fn filter_allowed(
        &self,
        host: &str,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> (Vec<SocketAddr>, Option<Blocked>) {
        let host = host.trim_end_matches('.');
        let (mut allowed, mut blocked) = (Vec::new(), None);
        for address in found {
            match self.check_address(host, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(Blocked::Address(_, kind)) => {
                    blocked = Some(Blocked::LeadsTo(host.to_owned(), kind));
                }
                Err(reason) => blocked = Some(reason),
            }
        }
        (allowed, blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &str, address: &str) -> bool {
        AllowedTargets::parse(list).unwrap().check(address.parse().unwrap()).is_ok()
    }

    fn list(text: &str) -> TargetList {
        TargetList::parse(text).unwrap()
    }

    fn refusal(targets: &Targets, url: &str) -> Option<String> {
        targets.check_url(&url.parse().unwrap()).err().map(|blocked| blocked.to_string())
    }

    fn filter_allowed(targets: &Targets, found: &[&str]) -> (Vec<String>, Option<String>) {
        let found = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
        let (open, closed) = targets.filter_allowed("a.example.", found);
        let open = open.iter().map(|address| address.ip().to_string()).collect();
        (open, closed.map(|blocked| blocked.to_string()))
    }

    #[test]
    fn only_public_addresses_are_allowed_by_default() {
        for public in ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(allowed("", public), "{public}");
        }
        for refused in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a83f:8110",
            "2002:7f00:1::",
        ] {
            assert!(!allowed("", refused), "{refused}");
        }
    }

    #[test]
    fn allowed_networks_allow_nothing_else() {
        assert!(allowed("127.0.0.0/8, 10.1.2.3", "127.9.9.9"));
        assert!(
            allowed("127.0.0.0/8", "::ffff:127.0.0.1"),
            "a mapped address is the address it maps to"
        );
        assert!(allowed("127.0.0.0/8, 10.1.2.3", "10.1.2.3"));
        assert!(!allowed("127.0.0.0/8, 10.1.2.3", "10.1.2.4"));
        assert_eq!(AllowedTargets::parse("127.0.0.0/8,home").unwrap_err(), "home");
    }

    #[test]
    fn a_metadata_service_is_allowed_only_by_its_own_address() {
        assert!(allowed("169.254.0.0/16", "169.254.1.1"));
        assert!(!allowed("169.254.0.0/16,0.0.0.0/0", "169.254.169.254"));
        assert!(allowed("169.254.169.254", "169.254.169.254"));
        assert!(!allowed("fd00::/8", "fd00:ec2::254"));
        assert!(!allowed("0.0.0.0/0", "168.63.129.16"));
        assert!(!allowed("::/0", "64:ff9b::a9fe:a9fe"), "it leads there by NAT64");
    }

    #[test]
    fn a_denied_target_is_forbidden_although_it_is_public_or_allowed() {
        let targets = Targets {
            allow: AllowedTargets::parse("127.0.0.0/8").unwrap(),
            deny: Some(list("127.0.0.2, 8.8.8.0/24, bad.example, *.worse.example")),
            ..Targets::default()
        };
        for url in [
            "http://127.0.0.2/",
            "https://8.8.8.8/",
            "https://[::ffff:8.8.8.8]/",
            "https://[64:ff9b::808:808]/",
            "https://BAD.example./",
            "https://a.worse.example/",
        ] {
            let refusal = refusal(&targets, url);
            assert!(refusal.is_some_and(|text| text.contains("HOOKHUB_DENY_TARGETS")), "{url}");
        }
        for url in ["http://127.0.0.1/", "https://8.8.4.4/", "https://worse.example/"] {
            assert_eq!(refusal(&targets, url), None, "{url}");
        }
        let (open, closed) = filter_allowed(&targets, &["8.8.8.8", "1.1.1.1"]);
        assert_eq!(open, ["1.1.1.1"]);
        assert!(closed.is_some_and(|text| text.contains("HOOKHUB_DENY_TARGETS")));
    }

    #[test]
    fn with_only_targets_every_other_target_is_forbidden() {
        let by_name = Targets { only: Some(list("*.good.example")), ..Targets::default() };
        assert_eq!(refusal(&by_name, "https://a.good.example/"), None);
        for url in ["https://good.example/", "https://1.1.1.1/"] {
            let refusal = refusal(&by_name, url);
            assert!(refusal.is_some_and(|text| text.contains("HOOKHUB_ONLY_TARGETS")), "{url}");
        }
        let named = Targets { only: Some(list("a.example")), ..Targets::default() };
        let (open, closed) = filter_allowed(&named, &["10.0.0.1", "1.1.1.1"]);
        assert_eq!(open, ["1.1.1.1"], "it opens nothing that is private");
        assert!(closed.is_some_and(|text| text.contains("HOOKHUB_ALLOW_TARGETS")));

        let by_network = Targets { only: Some(list("1.1.1.0/24")), ..Targets::default() };
        assert_eq!(refusal(&by_network, "https://a.example/"), None, "its addresses decide");
        assert_eq!(filter_allowed(&by_network, &["1.1.1.1", "8.8.8.8"]).0, ["1.1.1.1"]);
    }

    #[test]
    fn only_allowed_addresses_of_a_host_remain() {
        let targets = Targets::default();
        let found = ["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111", "::ffff:127.0.0.1"];
        let (open, closed) = filter_allowed(&targets, &found);
        assert_eq!(open, ["1.1.1.1", "2606:4700::1111"]);
        let reason = closed.expect("one is closed");
        assert!(reason.starts_with("a.example leads to a loopback address"), "{reason}");
        assert!(!reason.contains("127.0.0.1"), "{reason}");
        assert!(filter_allowed(&targets, &["169.254.169.254", "fe80::1"]).0.is_empty());
        assert_eq!(filter_allowed(&targets, &[]), (Vec::new(), None));
    }

    #[test]
    fn ports_of_other_protocols_are_forbidden_unless_allowed() {
        assert!(BAD_PORTS.is_sorted());
        let targets = Targets::default();
        for port in [22, 25, 6667, 10080] {
            let refusal = refusal(&targets, &format!("http://a.example:{port}/"));
            assert!(refusal.is_some_and(|text| text.contains("HOOKHUB_ALLOW_PORTS")), "{port}");
        }
        for url in ["http://a.example/", "https://a.example/", "https://a.example:8443/"] {
            assert_eq!(refusal(&targets, url), None, "{url}");
        }
        let opened = Targets { allow_ports: PortList::parse("22").unwrap(), ..Targets::default() };
        assert_eq!(refusal(&opened, "http://a.example:22/"), None);
        let kept_to =
            Targets { only_ports: Some(PortList::parse("443").unwrap()), ..Targets::default() };
        assert_eq!(refusal(&kept_to, "https://a.example/"), None);
        let other = refusal(&kept_to, "http://a.example/");
        assert!(other.is_some_and(|text| text.contains("port 80 is not among")));
    }

    #[test]
    fn http_is_forbidden_if_only_https_is_allowed() {
        let targets = Targets { https_only: true, ..Targets::default() };
        assert_eq!(refusal(&targets, "https://a.example/"), None);
        let refusal = refusal(&targets, "http://a.example/").unwrap();
        assert!(refusal.contains("HOOKHUB_HTTPS_ONLY"), "{refusal}");
    }
}
