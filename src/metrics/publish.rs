//! Metrics of publishing.

use super::counter::Counter;
use super::histogram::{DURATION_BOUNDS, Histogram};

#[derive(Debug)]
pub(crate) struct PublishMetrics {
    /// Published events made durable by this node.
    pub accepted: Counter,
    /// From the start of an append until its events are durable.
    pub duration: Histogram,
    /// Requests that failed because the database is unavailable, or so slow that too many requests wait.
    pub unavailable: Counter,
    /// Requests with an unknown outcome: the connection was lost during the commit, or the commit took too long.
    pub unknown: Counter,
    /// Requests whose statement the database refused: a fault of the hub or its schema.
    pub refused: Counter,
}

impl Default for PublishMetrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            duration: Histogram::of_micros(DURATION_BOUNDS),
            unavailable: Counter::default(),
            unknown: Counter::default(),
            refused: Counter::default(),
        }
    }
}
