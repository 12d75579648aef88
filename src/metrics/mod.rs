//! What a node counts and times of itself: plain atomics that each part adds to, and `/metrics` shows.

pub(crate) mod deliveries;
mod histogram;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use self::deliveries::{Delivering, Place, Standing};
pub(crate) use self::histogram::Histogram;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;
use crate::log::{AppendError, LogObserver};
use crate::store::log::Placed;

/// Microseconds: what is waited for while somebody looks on.
const DURATIONS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
/// Something that happened so many times.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// It happened `more` times.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many times so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All measures of a node.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// Of publishing.
    pub publishing: Publishing,
    /// Of deliveries to callbacks.
    pub delivering: Delivering,
    /// Of what is kept.
    pub keeping: Keeping,
}

impl LogObserver for Measures {
    fn handle_append(&self, placed: &Result<Placed, AppendError>, events: usize, took: Duration) {
        let publishing = &self.publishing;
        let refusal = match placed {
            Ok(Placed::Appended(_)) => {
                publishing.accepted.add(u64::try_from(events).unwrap_or(u64::MAX));
                publishing.duration.took(took);
                return;
            }
            Ok(Placed::Replayed { .. }) => return,
            Err(AppendError::Unavailable) => Refusal::Unavailable,
            Err(AppendError::Unknown) => Refusal::Unknown,
            Err(AppendError::Refused) => Refusal::Refused,
        };
        publishing.refused(refusal).add(1);
    }
}

/// Why a publish was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The database is away.
    Unavailable,
    /// The database went away in the middle.
    Unknown,
    /// The hub or its schema is at fault.
    Refused,
}

impl Refusal {
    /// All of them, with their names.
    pub(crate) const ALL: [(&'static str, Self); 3] = [
        ("unavailable", Self::Unavailable),
        ("unknown", Self::Unknown),
        ("refused", Self::Refused),
    ];
}

/// Measures of publishing.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// Events that are durable.
    pub accepted: Count,
    /// From taking a request up until its events are durable.
    pub duration: Histogram,
    refused: [Count; Refusal::ALL.len()],
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            accepted: Count::default(),
            duration: Histogram::of_micros(DURATIONS),
            refused: Default::default(),
        }
    }
}

impl Publishing {
    /// How many requests were not stored for that reason.
    pub(crate) fn refused(&self, why: Refusal) -> &Count {
        let [unavailable, unknown, refused] = &self.refused;
        match why {
            Refusal::Unavailable => unavailable,
            Refusal::Unknown => unknown,
            Refusal::Refused => refused,
        }
    }
}

/// Measures of what is kept, those of the tables for all nodes together.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// Events that went before a subscription had them, of which this node told.
    pub expired: Count,
    round: AtomicI64,
    sealed_otherwise: Mutex<Option<i64>>,
    tables: Mutex<Option<Tables>>,
}

/// What the tables take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables {
    /// Bytes of the events, indexes included.
    pub events_bytes: i64,
    /// Bytes of the attempts, indexes included.
    pub attempts_bytes: i64,
    /// Bytes of the whole database.
    pub database_bytes: i64,
    /// The oldest event that is kept.
    pub oldest: Option<Position>,
}

impl Keeping {
    /// A round of retention came to its end.
    pub(crate) fn set_round(&self, at: UnixMillis) {
        self.round.store(at.as_i64(), Ordering::Relaxed);
    }

    /// When the last round of retention came to its end; `None`: none has.
    pub(crate) fn round(&self) -> Option<UnixMillis> {
        let at = self.round.load(Ordering::Relaxed);
        (at > 0).then(|| UnixMillis::from_i64(at))
    }

    /// So many things in the database are not sealed with the current master key.
    pub(crate) fn set_sealed_otherwise(&self, count: i64) {
        *self.sealed_otherwise.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
    }

    /// How many things in the database are not sealed with the current master key, as last looked at; `None`
    /// until then.
    pub(crate) fn sealed_otherwise(&self) -> Option<i64> {
        *self.sealed_otherwise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tables take, as last looked at; `None` until then.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Option<Tables>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
