//! Metrics of webhook deliveries: attempts, commits of results, shards and queues.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use strum::{IntoStaticStr, VariantArray};

use super::counter::Counter;
use super::histogram::{DURATION_BOUNDS, Histogram};
use crate::domain::delivery::outcome::Outcome;
use crate::domain::time::UnixMillis;

/// Histogram bounds in microseconds, from the acceptance of an event to its delivery, retries and pauses included.
const DELAY_BOUNDS: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    86_400_000_000,
];
/// Histogram bounds of the number of results in one commit.
const BATCH_SIZE_BOUNDS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

/// The labels of attempts: the classes of the response status, then the error classes.
const OUTCOMES: [&str; 11] =
    ["1xx", "2xx", "3xx", "4xx", "5xx", "timeout", "connect", "dns", "tls", "blocked", "protocol"];

#[derive(Debug)]
pub(crate) struct DeliveryMetrics {
    attempts: [Counter; OUTCOMES.len()],
    /// From the start of an attempt until its response was read or it failed.
    pub duration: Histogram,
    /// From the acceptance of an event until its delivery.
    pub delay: Histogram,
    /// The duration of a commit of results.
    pub flush_duration: Histogram,
    /// The number of results in a commit.
    pub flush_results: Histogram,
    /// Deliveries that the hub gave up.
    pub exhausted: Counter,
    /// By how much the number of this node's shards has changed, up and down together.
    pub lease_changes: Counter,
    shards: AtomicU64,
    queues: Mutex<QueueSnapshot>,
}

impl Default for DeliveryMetrics {
    fn default() -> Self {
        Self {
            attempts: Default::default(),
            duration: Histogram::of_micros(DURATION_BOUNDS),
            delay: Histogram::of_micros(DELAY_BOUNDS),
            flush_duration: Histogram::of_micros(DURATION_BOUNDS),
            flush_results: Histogram::of_counts(BATCH_SIZE_BOUNDS),
            exhausted: Counter::default(),
            lease_changes: Counter::default(),
            shards: AtomicU64::new(0),
            queues: Mutex::default(),
        }
    }
}

impl DeliveryMetrics {
    /// Counts under the status class (such as `2xx`; a status below 100 or above 599 counts in the nearest), or under
    /// the error class if no complete response arrived.
    pub(crate) fn count_attempt(&self, outcome: &Outcome) {
        let name = match outcome {
            Outcome::Answered { status, .. } => {
                OUTCOMES.get(usize::from(status / 100).clamp(1, 5) - 1).copied()
            }
            Outcome::Failed(class) => Some(class.name()),
        };
        let counts = OUTCOMES.iter().zip(&self.attempts);
        for (_, count) in counts.filter(|(one, _)| Some(**one) == name) {
            count.add(1);
        }
    }

    /// By status class (such as `2xx`) or error class, since the node started.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().copied().zip(self.attempts.iter().map(Counter::get))
    }

    /// Also adds the difference from the previous number to [`Self::lease_changes`].
    pub(crate) fn set_shards(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let before = self.shards.swap(count, Ordering::Relaxed);
        self.lease_changes.add(before.abs_diff(count));
    }

    pub(crate) fn shards(&self) -> u64 {
        self.shards.load(Ordering::Relaxed)
    }

    pub(crate) fn queues(&self) -> MutexGuard<'_, QueueSnapshot> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The progress of a webhook subscription through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum ProgressState {
    /// Follows the tail.
    Current,
    /// Lags, and reads the log by its own cursor.
    Behind,
    /// The receiver accepts nothing; the hub sends only probes.
    Failing,
    /// Stopped by its owner.
    Paused,
    /// Stopped by the hub.
    Disabled,
    /// The receiver has not completed verification.
    Unverified,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StateTotals {
    pub subscriptions: usize,
    /// The time of the lowest cursor below the node's position; `None` if there is none.
    pub oldest: Option<UnixMillis>,
}

/// A snapshot of the delivery queues of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueSnapshot {
    pub in_flight: usize,
    /// Results that are not committed yet.
    pub unrecorded: usize,
    /// Events in memory before their first attempt.
    pub waiting_events: usize,
    /// The size of `waiting_events`.
    pub waiting_bytes: usize,
    /// Deliveries that wait for a retry.
    pub waiting_retries: usize,
    /// The time of the oldest event whose first attempt has not ended, over the active and failing subscriptions.
    pub oldest_pending: Option<UnixMillis>,
    pub by_state: BTreeMap<ProgressState, StateTotals>,
}

impl QueueSnapshot {
    pub(crate) fn totals(&self, state: ProgressState) -> StateTotals {
        self.by_state.get(&state).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::outcome::ErrorClass;

    #[test]
    fn attempts_are_counted_by_outcome() {
        let metrics = DeliveryMetrics::default();
        for status in [200, 204, 503] {
            metrics.count_attempt(&Outcome::Answered { status, retry_after: None });
        }
        metrics.count_attempt(&Outcome::Failed(ErrorClass::Protocol));
        let counted: Vec<_> = metrics.attempts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("2xx", 2), ("5xx", 1), ("protocol", 1)]);
    }

    #[test]
    fn gained_and_lost_shards_count_as_lease_changes() {
        let metrics = DeliveryMetrics::default();
        for count in [64, 64, 32, 0] {
            metrics.set_shards(count);
        }
        assert_eq!((metrics.shards(), metrics.lease_changes.get()), (0, 128));
    }
}
