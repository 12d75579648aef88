//! The journal of the receivers: each POST once its answer is given, and what must not be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookhub::domain::position::Position;

use crate::arrival::Arrival;

/// What stands before a line that tells of a fault of the hub.
pub(crate) const COMPLAINT: char = '!';

/// Lines that only ever grow in number.
#[derive(Default)]
pub(super) struct Journal {
    turns: AtomicU64,
    lines: Mutex<Vec<String>>,
    bodies: Mutex<HashMap<Position, u64>>,
}

impl Journal {
    /// The next turn.
    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes a POST.
    pub(super) fn note(&self, arrival: Arrival) {
        locked(&self.lines).push(arrival.to_string());
    }

    /// Notes what must not be.
    pub(super) fn complain(&self, what: &str) {
        locked(&self.lines).push(format!("{COMPLAINT} {what}"));
    }

    /// Whether the event came with these bytes each time.
    pub(super) fn is_same_body(&self, event: Position, body: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let hash = hasher.finish();
        match locked(&self.bodies).entry(event) {
            Entry::Occupied(known) => *known.get() == hash,
            Entry::Vacant(first) => {
                first.insert(hash);
                true
            }
        }
    }

    /// All lines but the first `from`.
    pub(super) fn after(&self, from: usize) -> String {
        locked(&self.lines).get(from..).unwrap_or_default().join("\n")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
