//! Measures of deliveries to callbacks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Count, DURATIONS, Histogram};
use crate::domain::delivery::outcome::Outcome;
use crate::domain::time::UnixMillis;

/// Microseconds: from an event's acceptance until it is delivered, retries and pauses included.
const DELAYS: &[u64] = &[
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
/// Results in one commit.
const SIZES: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

/// What a POST can come to: the hundred of an answer's status, or the class of error.
const OUTCOMES: [&str; 11] =
    ["1xx", "2xx", "3xx", "4xx", "5xx", "timeout", "connect", "dns", "tls", "blocked", "protocol"];

/// Measures of deliveries to callbacks.
#[derive(Debug)]
pub(crate) struct Delivering {
    attempts: [Count; OUTCOMES.len()],
    /// From an attempt's beginning until its answer was read or its failure known.
    pub duration: Histogram,
    /// From an event's acceptance until it was delivered.
    pub delay: Histogram,
    /// How long commits of results take.
    pub flush_duration: Histogram,
    /// How many results a commit has.
    pub flush_results: Histogram,
    /// Deliveries that were given up.
    pub exhausted: Count,
    /// Shards that came to this node or left it.
    pub lease_changes: Count,
    shards: AtomicU64,
    standing: Mutex<Standing>,
}

impl Default for Delivering {
    fn default() -> Self {
        Self {
            attempts: Default::default(),
            duration: Histogram::of_micros(DURATIONS),
            delay: Histogram::of_micros(DELAYS),
            flush_duration: Histogram::of_micros(DURATIONS),
            flush_results: Histogram::of_counts(SIZES),
            exhausted: Count::default(),
            lease_changes: Count::default(),
            shards: AtomicU64::new(0),
            standing: Mutex::default(),
        }
    }
}

impl Delivering {
    /// Notes what an attempt came to.
    pub(crate) fn note(&self, outcome: &Outcome) {
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

    /// How many attempts came to each outcome.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().copied().zip(self.attempts.iter().map(Count::get))
    }

    /// Notes how many shards this node owns.
    pub(crate) fn own_shards(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let before = self.shards.swap(count, Ordering::Relaxed);
        self.lease_changes.add(before.abs_diff(count));
    }

    /// How many shards this node owns.
    pub(crate) fn shards(&self) -> u64 {
        self.shards.load(Ordering::Relaxed)
    }

    /// How the queues stand, as last looked at.
    pub(crate) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a subscription with a callback gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// As the log goes on.
    Current,
    /// By a cursor of its own, behind the others.
    Behind,
    /// Hardly: its receiver takes nothing, and is tried now and then.
    Failing,
    /// Not at all: its owner has stopped it.
    Paused,
    /// Not at all: the hub has stopped it.
    Disabled,
    /// Not at all: its receiver has not agreed yet.
    Unverified,
}

impl Place {
    /// All of them, with their names.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("current", Self::Current),
        ("behind", Self::Behind),
        ("failing", Self::Failing),
        ("paused", Self::Paused),
        ("disabled", Self::Disabled),
        ("unverified", Self::Unverified),
    ];
}

/// The subscriptions in one place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Group {
    /// How many there are.
    pub subscriptions: usize,
    /// When the oldest event was accepted that one of them may not have; `None`: they have all.
    pub oldest: Option<UnixMillis>,
}

/// How the queues of a node stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Deliveries that run.
    pub in_flight: usize,
    /// Results that are not recorded yet.
    pub unrecorded: usize,
    /// Events that wait in memory for their first attempt.
    pub waiting_events: usize,
    /// Bytes of those.
    pub waiting_bytes: usize,
    /// Deliveries that wait for another attempt.
    pub waiting_retries: usize,
    /// When the oldest event was accepted that an active subscription has taken up and not finished.
    pub oldest_pending: Option<UnixMillis>,
    /// The subscriptions, by place; see [`Self::group`].
    pub groups: [Group; Place::ALL.len()],
}

impl Standing {
    /// The subscriptions in a place.
    pub(crate) fn group(&mut self, place: Place) -> &mut Group {
        let [current, behind, failing, paused, disabled, unverified] = &mut self.groups;
        match place {
            Place::Current => current,
            Place::Behind => behind,
            Place::Failing => failing,
            Place::Paused => paused,
            Place::Disabled => disabled,
            Place::Unverified => unverified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::outcome::ErrorClass;

    #[test]
    fn an_attempt_counts_by_what_it_came_to() {
        let delivering = Delivering::default();
        for status in [200, 204, 503] {
            delivering.note(&Outcome::Answered { status, retry_after: None });
        }
        delivering.note(&Outcome::Failed(ErrorClass::Protocol));
        let counted: Vec<_> = delivering.attempts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("2xx", 2), ("5xx", 1), ("protocol", 1)]);
    }

    #[test]
    fn shards_that_come_and_go_are_lease_changes() {
        let delivering = Delivering::default();
        for count in [64, 64, 32, 0] {
            delivering.own_shards(count);
        }
        assert_eq!((delivering.shards(), delivering.lease_changes.get()), (0, 128));
    }
}
