//! Settings of the default quotas: what each tenant may use unless an operator sets quotas for it.

use clap::Args;

use super::parse::number;
use crate::domain::access::quota::{EVENT_BYTES_RANGE, MAX_QUOTA, Quotas};

#[derive(Debug, Clone, Args)]
pub(super) struct QuotaArgs {
    /// Maximum size of an event's data, in bytes, unless the tenant's own quota differs
    #[arg(long, env = "HOOKHUB_MAX_EVENT_BYTES", value_name = "BYTES",
          default_value_t = Quotas::default().event_bytes, value_parser = number::<u32>(EVENT_BYTES_RANGE))]
    max_event_bytes: u32,

    /// Events that a tenant may publish per second, on each node. Unlimited unless set
    #[arg(long, env = "HOOKHUB_QUOTA_EVENTS_PER_S", value_name = "COUNT", value_parser = number::<u32>(1..=MAX_QUOTA))]
    quota_events_per_s: Option<u32>,

    /// Subscriptions that a tenant may have
    #[arg(long, env = "HOOKHUB_QUOTA_SUBSCRIPTIONS", value_name = "COUNT",
          default_value_t = Quotas::default().subscriptions, value_parser = number::<u32>(1..=MAX_QUOTA))]
    quota_subscriptions: u32,

    /// Streams and waiting polls that a tenant may have open, on each node. Limited only by the node unless set
    #[arg(long, env = "HOOKHUB_QUOTA_STREAMS", value_name = "COUNT", value_parser = number::<u32>(1..=MAX_QUOTA))]
    quota_streams: Option<u32>,
}

impl QuotaArgs {
    /// The default quotas: each applies to the tenants that have no value of their own for it.
    pub(super) fn quotas(&self) -> Quotas {
        Quotas {
            events_per_s: self.quota_events_per_s,
            subscriptions: self.quota_subscriptions,
            streams: self.quota_streams,
            event_bytes: self.max_event_bytes,
        }
    }
}
