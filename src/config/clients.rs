//! Settings of what clients are held to: where they come from, and how many may be connected.

use clap::Args;

use super::{ConfigError, Settings, or, wrong};
use crate::stream::presence::MostConnections;
use crate::values::forwarded::{ProxyHeader, TrustedProxies};
use crate::values::networks::Networks;

/// These settings as they are given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ClientArgs {
    /// Streams (SSE, WebSocket) and waiting polls open at once on this node; each takes an open file [default: 16384]
    #[arg(long, env = "HOOKHUB_MAX_STREAMS", value_name = "COUNT")]
    max_streams: Option<String>,

    /// Streams and waiting polls open at once with one key [default: as many as on the node]
    #[arg(long, env = "HOOKHUB_MAX_STREAMS_PER_KEY", value_name = "COUNT")]
    max_streams_per_key: Option<String>,

    /// Networks of the reverse proxies whose word about where a request comes from is believed, e.g. 10.0.0.0/8
    /// [default: none]
    #[arg(long, env = "HOOKHUB_TRUSTED_PROXIES", value_name = "CIDR,…")]
    trusted_proxies: Option<String>,

    /// The header in which they say it: x-forwarded-for or forwarded [default: x-forwarded-for]
    #[arg(long, env = "HOOKHUB_PROXY_HEADER", value_name = "HEADER")]
    proxy_header: Option<String>,
}

impl ClientArgs {
    /// How many streams may be open.
    pub(super) fn max_streams(&self) -> Result<MostConnections, ConfigError> {
        let count = |setting, text: String| match text.parse() {
            Ok(count @ 1..=1_000_000) => Ok(count),
            _ => Err(wrong(setting, format!("{text:?} is no whole number from 1 to 1000000"))),
        };
        let (in_all, per_key) = (self.max_streams.clone(), self.max_streams_per_key.clone());
        let default = Settings::default().max_streams.in_all;
        let in_all = or(in_all, default, |text| count("HOOKHUB_MAX_STREAMS", text))?;
        let per_key = or(per_key, in_all, |text| count("HOOKHUB_MAX_STREAMS_PER_KEY", text))?;
        Ok(MostConnections { in_all, per_key })
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

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn one_key_may_have_as_many_streams_as_the_node_unless_told_otherwise() {
        let args = ClientArgs { max_streams: text("7"), ..ClientArgs::default() };
        let most = args.max_streams().unwrap();
        assert_eq!((most.in_all, most.per_key), (7, 7));
    }

    #[test]
    fn a_bad_setting_is_named() {
        for (args, named) in [
            (ClientArgs { max_streams: text("0"), ..ClientArgs::default() }, "HOOKHUB_MAX_STREAMS"),
            (
                ClientArgs { max_streams_per_key: text("-1"), ..ClientArgs::default() },
                "HOOKHUB_MAX_STREAMS_PER_KEY",
            ),
        ] {
            assert!(args.max_streams().unwrap_err().to_string().starts_with(named));
        }
        for (args, named) in [
            (
                ClientArgs { trusted_proxies: text("10.0.0.0/8,lb"), ..ClientArgs::default() },
                "HOOKHUB_TRUSTED_PROXIES",
            ),
            (
                ClientArgs { proxy_header: text("x-real-ip"), ..ClientArgs::default() },
                "HOOKHUB_PROXY_HEADER",
            ),
        ] {
            assert!(args.trusted_proxies().unwrap_err().to_string().starts_with(named));
        }
    }

    #[test]
    fn proxies_are_trusted_where_they_are_named_alone() {
        assert_eq!(ClientArgs::default().trusted_proxies().unwrap(), TrustedProxies::default());
        let args = ClientArgs {
            trusted_proxies: text("10.0.0.0/8"),
            proxy_header: text("Forwarded"),
            ..ClientArgs::default()
        };
        let expected = TrustedProxies {
            networks: Networks::parse("10.0.0.0/8").unwrap(),
            header: ProxyHeader::Forwarded,
        };
        assert_eq!(args.trusted_proxies().unwrap(), expected);
    }
}
