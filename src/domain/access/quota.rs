//! Quotas: how much a tenant may publish, subscribe to and hold open.

use std::ops::RangeInclusive;

use serde::Serialize;

/// The most that a quota of events per second, of subscriptions or of streams can be.
pub const MAX_QUOTA: u32 = 1_000_000;
/// How many bytes of data one event may be allowed, at least and at most (4 MiB).
pub const EVENT_BYTES_RANGE: RangeInclusive<u32> = 1_024..=4_194_304;

/// What is in force for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quotas {
    /// Events it may publish in a second, on each node; `None`: as many as come.
    pub events_per_s: Option<u32>,
    /// Subscriptions it may have.
    pub subscriptions: u32,
    /// Streams and waiting polls it may have open on each node; `None`: as many as the node has room for.
    pub streams: Option<u32>,
    /// Bytes of data that one of its events may have.
    pub event_bytes: u32,
}

/// What an operator allows one tenant; `None`: what the hub allows each. 0 of a count is none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OwnQuotas {
    /// See [`Quotas::events_per_s`].
    pub events_per_s: Option<u32>,
    /// See [`Quotas::subscriptions`].
    pub subscriptions: Option<u32>,
    /// See [`Quotas::streams`].
    pub streams: Option<u32>,
    /// See [`Quotas::event_bytes`].
    pub event_bytes: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { events_per_s: None, subscriptions: 10_000, streams: None, event_bytes: 256 << 10 }
    }
}

impl OwnQuotas {
    /// What is in force for a tenant with these, where others have `default`.
    pub fn over(&self, default: Quotas) -> Quotas {
        Quotas {
            events_per_s: self.events_per_s.or(default.events_per_s),
            subscriptions: self.subscriptions.unwrap_or(default.subscriptions),
            streams: self.streams.or(default.streams),
            event_bytes: self.event_bytes.unwrap_or(default.event_bytes),
        }
    }
}

/// How many connections are taken.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// On this node.
    pub in_all: usize,
    /// By one key.
    pub per_key: usize,
    /// From one address.
    pub per_address: usize,
}
