//! Quotas: limits on the events, subscriptions and streams of a tenant.

use std::ops::RangeInclusive;

use serde::Serialize;

/// The highest quota of events per second, of subscriptions and of streams.
pub const MAX_QUOTA: u32 = 1_000_000;
/// The range of the quota of an event's size, in bytes (up to 4 MiB).
pub const EVENT_BYTES_RANGE: RangeInclusive<u32> = 1_024..=4_194_304;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quotas {
    /// Events per second, on each node; `None`: unlimited.
    pub events_per_s: Option<u32>,
    pub subscriptions: u32,
    /// Open streams and waiting polls, on each node; `None`: limited only by the node.
    pub streams: Option<u32>,
    /// The maximum size of an event's data, in bytes.
    pub event_bytes: u32,
}

/// The quotas that an operator sets for one tenant; `None`: the hub's default. A quota of 0 allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OwnQuotas {
    pub events_per_s: Option<u32>,
    pub subscriptions: Option<u32>,
    pub streams: Option<u32>,
    pub event_bytes: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { events_per_s: None, subscriptions: 10_000, streams: None, event_bytes: 256 << 10 }
    }
}

impl OwnQuotas {
    /// The tenant's own values, and `default` for each quota that it does not set.
    pub fn over(&self, default: Quotas) -> Quotas {
        Quotas {
            events_per_s: self.events_per_s.or(default.events_per_s),
            subscriptions: self.subscriptions.unwrap_or(default.subscriptions),
            streams: self.streams.or(default.streams),
            event_bytes: self.event_bytes.unwrap_or(default.event_bytes),
        }
    }
}

/// Maximum numbers of streams and waiting polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    pub per_node: usize,
    pub per_key: usize,
    /// Per IPv4 address or IPv6 /64.
    pub per_address: usize,
}
