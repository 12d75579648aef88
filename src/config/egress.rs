//! Settings of outgoing requests: which targets they may reach, and through which proxy.

use clap::{ArgAction, Args};

use super::parse::{allowed_targets, port_list, target_list};
use crate::domain::egress::policy::{AllowedTargets, EgressPolicy, Targets};
use crate::domain::egress::proxy::EgressProxy;
use crate::domain::egress::target_list::{PortList, TargetList};

#[derive(Debug, Clone, Args)]
pub(super) struct EgressArgs {
    /// Private or loopback networks that callbacks may reach, e.g. 127.0.0.0/8,10.1.0.0/16. None unless set
    #[arg(long, env = "HOOKHUB_ALLOW_TARGETS", value_name = "CIDR,…", value_parser = allowed_targets)]
    allow_targets: Option<AllowedTargets>,

    /// Public networks and hosts that callbacks may not reach, e.g. 203.0.113.0/24,*.example.com. Takes precedence over
    /// every other list
    #[arg(long, env = "HOOKHUB_DENY_TARGETS", value_name = "CIDR|HOST,…", value_parser = target_list)]
    deny_targets: Option<TargetList>,

    /// The only networks and hosts that callbacks may reach, e.g. hooks.example.com,*.example.org. Private addresses
    /// stay closed. All public targets unless set
    #[arg(long, env = "HOOKHUB_ONLY_TARGETS", value_name = "CIDR|HOST,…", value_parser = target_list)]
    only_targets: Option<TargetList>,

    /// Ports of other protocols that callbacks may use all the same, e.g. 22,6000-6063
    #[arg(long, env = "HOOKHUB_ALLOW_PORTS", value_name = "PORT,…", value_parser = port_list)]
    allow_ports: Option<PortList>,

    /// The only ports that callbacks may use, e.g. 443,8443. All but those of other protocols unless set
    #[arg(long, env = "HOOKHUB_ONLY_PORTS", value_name = "PORT,…", value_parser = port_list)]
    only_ports: Option<PortList>,

    /// Refuse callback URLs that do not use https
    #[arg(long, env = "HOOKHUB_HTTPS_ONLY", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", default_value_t = false)]
    https_only: bool,

    /// Proxy for all callbacks, http and https alike (CONNECT). The proxy itself must keep them off private networks
    #[arg(
        long,
        env = "HOOKHUB_EGRESS_PROXY",
        value_name = "http://[USER:PASSWORD@]HOST:PORT",
        hide_env_values = true
    )]
    egress_proxy: Option<EgressProxy>,
}

impl EgressArgs {
    pub(super) fn egress(self) -> EgressPolicy {
        EgressPolicy {
            targets: Targets {
                allow: self.allow_targets.unwrap_or_default(),
                deny: self.deny_targets,
                only: self.only_targets,
                allow_ports: self.allow_ports.unwrap_or_default(),
                only_ports: self.only_ports,
                https_only: self.https_only,
            },
            proxy: self.egress_proxy,
        }
    }
}
