//! Value parsers: each turns the text of a setting into its type, or says what would be right.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::domain::access::forwarded::ProxyHeader;
use crate::domain::access::networks::Networks;
use crate::domain::egress::policy::AllowedTargets;
use crate::domain::egress::target_list::{PortList, TargetList};

/// One year.
const MAX_SECONDS: u64 = 31_536_000;

/// A value parser for whole numbers in `range`, both ends included; its error is the text for the user.
pub(super) fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!("{text:?} is not a whole number from {} to {}", range.start(), range.end())
        })
    }
}

/// A duration of whole seconds, from one second to one year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number(1..=MAX_SECONDS)(text).map(|seconds| Self(Duration::from_secs(seconds)))
    }
}

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs().fmt(f)
    }
}

/// A comma-separated list of durations in whole seconds; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecondsList(pub(super) Vec<Duration>);

impl FromStr for SecondsList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.split(',').map(|step| Ok(step.trim().parse::<Seconds>()?.0));
        seconds.collect::<Result<_, _>>().map(Self)
    }
}

impl Display for SecondsList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds: Vec<_> = self.0.iter().map(|step| step.as_secs().to_string()).collect();
        f.write_str(&seconds.join(","))
    }
}

/// Parses an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`. The error is the text for the user.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_bad| {
        format!("{text:?} is not an address and port; expected e.g. 127.0.0.1:8080 or [::1]:8080")
    })
}

/// Accepts `postgres` and `postgresql` URLs. The error does not repeat the URL, which may hold a password.
pub(super) fn database_url(text: &str) -> Result<String, &'static str> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        Ok(text.to_owned())
    } else {
        Err("expected postgres://user:password@host/database")
    }
}

/// Accepts at least 16 visible ASCII characters without spaces. The error does not repeat the key.
pub(super) fn admin_key(text: &str) -> Result<String, &'static str> {
    if text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(
            "expected at least 16 visible ASCII characters without spaces, e.g. the output of: openssl rand -hex 32",
        )
    }
}

/// Accepts one origin as browsers write it (scheme, host, port unless default; no path), or `*`. Removes surrounding spaces.
pub(super) fn cors_origin(text: &str) -> Result<String, String> {
    let text = text.trim();
    let url = Url::parse(text).ok();
    let is_origin = url.is_some_and(|url| url.origin().ascii_serialization() == text);
    if text == "*" || is_origin && !text.contains('*') {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not an origin; expected e.g. https://app.example.com, without a path, or *"
    ))
}

pub(super) fn allowed_targets(text: &str) -> Result<AllowedTargets, String> {
    AllowedTargets::parse(text).map_err(|part| not_a_network(&part))
}

/// Parses a comma-separated list of networks (CIDR) and addresses. The error is the text for the user.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    Networks::parse(text).map_err(|part| not_a_network(&part))
}

fn not_a_network(part: &str) -> String {
    format!("{part:?} is not a network; expected e.g. 10.0.0.0/8,192.0.2.3")
}

pub(super) fn target_list(text: &str) -> Result<TargetList, String> {
    TargetList::parse(text).map_err(|part| {
        format!(
            "{part:?} is neither a network nor a host; expected e.g. 203.0.113.0/24,hooks.example.com,*.example.org"
        )
    })
}

pub(super) fn port_list(text: &str) -> Result<PortList, String> {
    PortList::parse(text).map_err(|part| {
        format!("{part:?} is neither a port from 1 to 65535 nor a range of ports; expected e.g. 443,8000-8999")
    })
}

/// Accepts `x-forwarded-for` and `forwarded`, in upper or lower case.
pub(super) fn proxy_header(text: &str) -> Result<ProxyHeader, String> {
    let known = [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded];
    let named = known.into_iter().find(|header| header.name().eq_ignore_ascii_case(text));
    named.ok_or_else(|| format!("{text:?} is neither x-forwarded-for nor forwarded"))
}
