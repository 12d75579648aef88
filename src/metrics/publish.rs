//! Metrics of publishing.

use super::counter::Counter;
use super::histogram::{DURATION_BOUNDS, Histogram};

/// The reason why a publish request was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishFailure {
    /// The database is unavailable.
    Unavailable,
    /// The connection was lost during the commit, so the outcome is unknown.
    Unknown,
    /// The database refused the statement: a fault of the hub or its schema.
    Refused,
}

impl PublishFailure {
    /// Each reason with its label in `/metrics`.
    pub(crate) const ALL: [(&'static str, Self); 3] = [
        ("unavailable", Self::Unavailable),
        ("unknown", Self::Unknown),
        ("refused", Self::Refused),
    ];
}

#[derive(Debug)]
pub(crate) struct PublishMetrics {
    /// Events made durable by this node.
    pub accepted: Counter,
    /// From the start of an append until its events are durable.
    pub duration: Histogram,
    failures: [Counter; PublishFailure::ALL.len()],
}

impl Default for PublishMetrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            duration: Histogram::of_micros(DURATION_BOUNDS),
            failures: Default::default(),
        }
    }
}

impl PublishMetrics {
    pub(crate) fn failures(&self, reason: PublishFailure) -> &Counter {
        let [unavailable, unknown, refused] = &self.failures;
        match reason {
            PublishFailure::Unavailable => unavailable,
            PublishFailure::Unknown => unknown,
            PublishFailure::Refused => refused,
        }
    }
}
