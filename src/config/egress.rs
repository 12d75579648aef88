//! Settings of the way out: where callbacks may go, and by which proxy.

use clap::Args;

use super::{ConfigError, or, wrong};
use crate::domain::egress::policy::{AllowedTargets, EgressPolicy, Targets};
use crate::domain::egress::proxy::{BadEgressProxy, EgressProxy};
use crate::domain::egress::target_list::{PortList, TargetList};

/// They as they are given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct EgressArgs {
    /// Networks that callbacks may reach although they are private or loopback, e.g. 127.0.0.0/8,10.1.0.0/16
    #[arg(long, env = "HOOKHUB_ALLOW_TARGETS", value_name = "CIDR,…")]
    allow_targets: Option<String>,

    /// Networks and hosts that callbacks may not reach although they are public, e.g. 203.0.113.0/24,*.example.com;
    /// this wins over all other lists
    #[arg(long, env = "HOOKHUB_DENY_TARGETS", value_name = "CIDR|HOST,…")]
    deny_targets: Option<String>,

    /// The only networks and hosts that callbacks may reach, e.g. hooks.example.com,*.example.org; it opens nothing
    /// that is private [default: all]
    #[arg(long, env = "HOOKHUB_ONLY_TARGETS", value_name = "CIDR|HOST,…")]
    only_targets: Option<String>,

    /// Ports that callbacks may go to although they are those of other protocols, e.g. 22,6000-6063
    #[arg(long, env = "HOOKHUB_ALLOW_PORTS", value_name = "PORT,…")]
    allow_ports: Option<String>,

    /// The only ports that callbacks may go to, e.g. 443,8443 [default: all]
    #[arg(long, env = "HOOKHUB_ONLY_PORTS", value_name = "PORT,…")]
    only_ports: Option<String>,

    /// Whether callbacks go to https alone: true or false [default: false]
    #[arg(long, env = "HOOKHUB_HTTPS_ONLY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    https_only: Option<String>,

    /// Proxy that callbacks go by, for http and https alike (CONNECT); it has to keep them off private networks itself
    #[arg(
        long,
        env = "HOOKHUB_EGRESS_PROXY",
        value_name = "http://[USER:PASSWORD@]HOST:PORT",
        hide_env_values = true
    )]
    egress_proxy: Option<String>,
}

impl EgressArgs {
    /// Checks what was given.
    pub(crate) fn read(self) -> Result<EgressPolicy, ConfigError> {
        Ok(EgressPolicy {
            targets: Targets {
                allow: or(self.allow_targets, AllowedTargets::default(), |text| {
                    AllowedTargets::parse(&text).map_err(|part| {
                        let detail =
                            format!("{part:?} is no network; expected e.g. 127.0.0.0/8,10.1.2.3");
                        wrong("HOOKHUB_ALLOW_TARGETS (--allow-targets)", detail)
                    })
                })?,
                deny: targets("HOOKHUB_DENY_TARGETS (--deny-targets)", self.deny_targets)?,
                only: targets("HOOKHUB_ONLY_TARGETS (--only-targets)", self.only_targets)?,
                allow_ports: ports("HOOKHUB_ALLOW_PORTS (--allow-ports)", self.allow_ports)?
                    .unwrap_or_default(),
                only_ports: ports("HOOKHUB_ONLY_PORTS (--only-ports)", self.only_ports)?,
                https_only: or(self.https_only, false, |text| {
                    text.parse().map_err(|_bad| {
                        let detail = format!("{text:?} is neither true nor false");
                        wrong("HOOKHUB_HTTPS_ONLY (--https-only)", detail)
                    })
                })?,
            },
            proxy: or(self.egress_proxy, None, |text| proxy(&text).map(Some))?,
        })
    }
}

fn targets(
    setting: &'static str,
    given: Option<String>,
) -> Result<Option<TargetList>, ConfigError> {
    or(given, None, |text| match TargetList::parse(&text) {
        Ok(list) => Ok(Some(list)),
        Err(part) => Err(wrong(
            setting,
            format!(
                "{part:?} is neither a network nor a host; expected e.g. 203.0.113.0/24,hooks.example.com,*.example.org"
            ),
        )),
    })
}

fn ports(setting: &'static str, given: Option<String>) -> Result<Option<PortList>, ConfigError> {
    or(given, None, |text| match PortList::parse(&text) {
        Ok(list) => Ok(Some(list)),
        Err(part) => Err(wrong(
            setting,
            format!(
                "{part:?} is no port from 1 to 65535, nor a range; expected e.g. 443,8000-8999"
            ),
        )),
    })
}

fn proxy(text: &str) -> Result<EgressProxy, ConfigError> {
    text.parse().map_err(|bad: BadEgressProxy| {
        wrong("HOOKHUB_EGRESS_PROXY (--egress-proxy)", bad.to_string())
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        egress: EgressArgs,
    }

    fn read(args: &[&str]) -> Result<EgressPolicy, ConfigError> {
        let line = CommandLine::parse_from([&["hookhub"], args].concat());
        line.egress.read()
    }

    #[test]
    fn a_bad_setting_is_named_in_one_line() {
        for (flag, bad, named) in [
            ("--allow-targets", "10.0.0.0/99", "HOOKHUB_ALLOW_TARGETS"),
            ("--allow-targets", "a.example", "HOOKHUB_ALLOW_TARGETS"),
            ("--deny-targets", "https://a.example", "HOOKHUB_DENY_TARGETS"),
            ("--only-targets", "a.example,*", "HOOKHUB_ONLY_TARGETS"),
            ("--allow-ports", "22,ssh", "HOOKHUB_ALLOW_PORTS"),
            ("--only-ports", "0", "HOOKHUB_ONLY_PORTS"),
            ("--https-only", "yes", "HOOKHUB_HTTPS_ONLY"),
            ("--egress-proxy", "https://u:planted@proxy:3128", "HOOKHUB_EGRESS_PROXY"),
        ] {
            let line = read(&[flag, bad]).unwrap_err().to_string();
            assert!(
                line.starts_with(named) && !line.contains('\n') && !line.contains("planted"),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_given_holds_and_an_empty_text_is_the_default() {
        let given = read(&["--https-only", "--only-ports", "443", "--deny-targets", "a.example"]);
        let Targets { https_only, only_ports, deny, only, .. } = given.unwrap().targets;
        assert!(https_only && only_ports.is_some() && deny.is_some() && only.is_none());
        let empty = read(&["--https-only", "", "--only-targets", "", "--egress-proxy", ""]);
        let EgressPolicy { targets, proxy } = empty.unwrap();
        assert!(!targets.https_only && targets.only.is_none() && proxy.is_none());
    }
}
