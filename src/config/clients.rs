//! Settings of what clients are held to: where they come from, how many may be connected, and how long they may take.

use std::time::Duration;

use clap::Args;

use super::{ConfigError, Settings, or, seconds, wrong};
use crate::domain::access::forwarded::{ProxyHeader, TrustedProxies};
use crate::domain::access::networks::Networks;
use crate::domain::access::quota::ConnectionLimits;

/// How long clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Over the head of a request.
    pub head: Duration,
    /// Over its body, and over a message on a WebSocket.
    pub body: Duration,
    /// Until the next request on a connection.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let of = Duration::from_secs;
        // Longer idle than the usual proxy before a server (60 s), so that it is not the hub that hangs up on it.
        Self { head: of(10), body: of(30), idle: of(75) }
    }
}

/// These settings as they are given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ClientArgs {
    /// Streams (SSE, WebSocket) and waiting polls open at once on this node; each takes an open file [default: 16384]
    #[arg(long, env = "HOOKHUB_MAX_STREAMS", value_name = "COUNT")]
    max_streams: Option<String>,

    /// Streams and waiting polls open at once with one key [default: as many as on the node]
    #[arg(long, env = "HOOKHUB_MAX_STREAMS_PER_KEY", value_name = "COUNT")]
    max_streams_per_key: Option<String>,

    /// Streams and waiting polls open at once from one address (of IPv6: from one /64) [default: as many as on the node]
    #[arg(long, env = "HOOKHUB_MAX_STREAMS_PER_ADDRESS", value_name = "COUNT")]
    max_streams_per_address: Option<String>,

    /// Connections open at once from one address (of IPv6: from one /64), streams among them; trusted proxies may have
    /// any number [default: no limit]
    #[arg(long, env = "HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    max_connections_per_address: Option<String>,

    /// Networks of the reverse proxies whose word about where a request comes from is believed, e.g. 10.0.0.0/8
    /// [default: none]
    #[arg(long, env = "HOOKHUB_TRUSTED_PROXIES", value_name = "CIDR,…")]
    trusted_proxies: Option<String>,

    /// The header in which they say it: x-forwarded-for or forwarded [default: x-forwarded-for]
    #[arg(long, env = "HOOKHUB_PROXY_HEADER", value_name = "HEADER")]
    proxy_header: Option<String>,

    /// Seconds that a client may take over the head of a request [default: 10]
    #[arg(long, env = "HOOKHUB_HEAD_DEADLINE_S", value_name = "SECONDS")]
    head_deadline_s: Option<String>,

    /// Seconds that it may take over the body, or over a message on a WebSocket [default: 30]
    #[arg(long, env = "HOOKHUB_BODY_DEADLINE_S", value_name = "SECONDS")]
    body_deadline_s: Option<String>,

    /// Seconds that a connection may be idle between requests [default: 75]
    #[arg(long, env = "HOOKHUB_IDLE_DEADLINE_S", value_name = "SECONDS")]
    idle_deadline_s: Option<String>,
}

fn count(setting: &'static str, text: &str) -> Result<usize, ConfigError> {
    match text.parse() {
        Ok(count @ 1..=1_000_000) => Ok(count),
        _ => Err(wrong(setting, format!("{text:?} is no whole number from 1 to 1000000"))),
    }
}

impl ClientArgs {
    /// How many streams may be open.
    pub(super) fn max_streams(&self) -> Result<ConnectionLimits, ConfigError> {
        let per = |setting, given: &Option<String>, default| {
            or(given.clone(), default, |text| count(setting, &text))
        };
        let default = Settings::default().max_streams.in_all;
        let in_all = per("HOOKHUB_MAX_STREAMS", &self.max_streams, default)?;
        let per_key = per("HOOKHUB_MAX_STREAMS_PER_KEY", &self.max_streams_per_key, in_all)?;
        let per_address =
            per("HOOKHUB_MAX_STREAMS_PER_ADDRESS", &self.max_streams_per_address, in_all)?;
        Ok(ConnectionLimits { in_all, per_key, per_address })
    }

    /// How many connections may be open from one address.
    pub(super) fn max_connections_per_address(&self) -> Result<usize, ConfigError> {
        or(self.max_connections_per_address.clone(), usize::MAX, |text| {
            count("HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS", &text)
        })
    }

    /// How long clients may take.
    pub(super) fn patience(&self) -> Result<Patience, ConfigError> {
        let of = |setting, given: &Option<String>, default| {
            or(given.clone(), default, |text| seconds(setting, &text))
        };
        let default = Patience::default();
        Ok(Patience {
            head: of("HOOKHUB_HEAD_DEADLINE_S", &self.head_deadline_s, default.head)?,
            body: of("HOOKHUB_BODY_DEADLINE_S", &self.body_deadline_s, default.body)?,
            idle: of("HOOKHUB_IDLE_DEADLINE_S", &self.idle_deadline_s, default.idle)?,
        })
    }

    /// Whose word about where a request comes from is believed.
    pub(super) fn trusted_proxies(&self) -> Result<TrustedProxies, ConfigError> {
        let networks = |text: String| {
            Networks::parse(&text).map_err(|part| {
                let detail = format!("{part:?} is no network; expected e.g. 10.0.0.0/8,10.1.2.3");
                wrong("HOOKHUB_TRUSTED_PROXIES (--trusted-proxies)", detail)
            })
        };
        let header = |text: String| {
            let known = [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded];
            let named = known.into_iter().find(|one| one.name().eq_ignore_ascii_case(&text));
            named.ok_or_else(|| {
                let detail = format!("{text:?} is neither x-forwarded-for nor forwarded");
                wrong("HOOKHUB_PROXY_HEADER (--proxy-header)", detail)
            })
        };
        Ok(TrustedProxies {
            networks: or(self.trusted_proxies.clone(), Networks::default(), networks)?,
            header: or(self.proxy_header.clone(), ProxyHeader::default(), header)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a setting that is given")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn one_key_or_address_may_have_as_many_streams_as_the_node_unless_told_otherwise() {
        let args = ClientArgs { max_streams: some("7"), ..ClientArgs::default() };
        let most = args.max_streams().unwrap();
        assert_eq!((most.in_all, most.per_key, most.per_address), (7, 7, 7));
    }

    #[test]
    fn a_bad_setting_is_named() {
        for (args, named) in [
            (ClientArgs { max_streams: some("0"), ..ClientArgs::default() }, "HOOKHUB_MAX_STREAMS"),
            (
                ClientArgs { max_streams_per_key: some("-1"), ..ClientArgs::default() },
                "HOOKHUB_MAX_STREAMS_PER_KEY",
            ),
            (
                ClientArgs { max_streams_per_address: some("all"), ..ClientArgs::default() },
                "HOOKHUB_MAX_STREAMS_PER_ADDRESS",
            ),
        ] {
            assert!(args.max_streams().unwrap_err().to_string().starts_with(named));
        }
        for (args, named) in [
            (
                ClientArgs { trusted_proxies: some("10.0.0.0/8,lb"), ..ClientArgs::default() },
                "HOOKHUB_TRUSTED_PROXIES",
            ),
            (
                ClientArgs { proxy_header: some("x-real-ip"), ..ClientArgs::default() },
                "HOOKHUB_PROXY_HEADER",
            ),
        ] {
            assert!(args.trusted_proxies().unwrap_err().to_string().starts_with(named));
        }
    }

    #[test]
    fn there_is_no_limit_of_connections_from_one_address_unless_one_is_set() {
        let none = ClientArgs::default().max_connections_per_address().unwrap();
        assert_eq!(none, usize::MAX);
        for (given, expected) in [("20", Some(20)), ("0", None), ("many", None)] {
            let args =
                ClientArgs { max_connections_per_address: some(given), ..ClientArgs::default() };
            assert_eq!(args.max_connections_per_address().ok(), expected, "{given}");
        }
    }

    #[test]
    fn deadlines_are_whole_seconds() {
        assert_eq!(ClientArgs::default().patience().unwrap(), Patience::default());
        let args = ClientArgs { head_deadline_s: some("3"), ..ClientArgs::default() };
        let expected = Patience { head: Duration::from_secs(3), ..Patience::default() };
        assert_eq!(args.patience().unwrap(), expected);
        for (args, named) in [
            (ClientArgs { head_deadline_s: some("0"), ..args.clone() }, "HOOKHUB_HEAD_DEADLINE_S"),
            (
                ClientArgs { body_deadline_s: some("1.5"), ..args.clone() },
                "HOOKHUB_BODY_DEADLINE_S",
            ),
            (ClientArgs { idle_deadline_s: some("-"), ..args.clone() }, "HOOKHUB_IDLE_DEADLINE_S"),
        ] {
            assert!(args.patience().unwrap_err().to_string().starts_with(named));
        }
    }

    #[test]
    fn proxies_are_trusted_where_they_are_named_alone() {
        assert_eq!(ClientArgs::default().trusted_proxies().unwrap(), TrustedProxies::default());
        let args = ClientArgs {
            trusted_proxies: some("10.0.0.0/8"),
            proxy_header: some("Forwarded"),
            ..ClientArgs::default()
        };
        let expected = TrustedProxies {
            networks: Networks::parse("10.0.0.0/8").unwrap(),
            header: ProxyHeader::Forwarded,
        };
        assert_eq!(args.trusted_proxies().unwrap(), expected);
    }
}
