//! The journal of the receivers: one line for each answered POST, and one for each invalid request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookhub::domain::position::Position;

use crate::attempt_record::AttemptRecord;

/// First character of a line that reports a violation.
pub(crate) const VIOLATION_PREFIX: char = '!';

/// Lines are only ever appended.
#[derive(Default)]
pub(super) struct Journal {
    next_sequence: AtomicU64,
    lines: Mutex<Vec<String>>,
    bodies: Mutex<HashMap<Position, u64>>,
}

impl Journal {
    /// Draws the next sequence number.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn record(&self, attempt: AttemptRecord) {
        lock(&self.lines).push(attempt.to_string());
    }

    pub(super) fn record_violation(&self, description: &str) {
        lock(&self.lines).push(format!("{VIOLATION_PREFIX} {description}"));
    }

    /// Whether every attempt of the event had this body.
    pub(super) fn is_same_body(&self, event: Position, body: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let hash = hasher.finish();
        match lock(&self.bodies).entry(event) {
            Entry::Occupied(known) => *known.get() == hash,
            Entry::Vacant(first) => {
                first.insert(hash);
                true
            }
        }
    }

    /// All lines after the first `from`.
    pub(super) fn lines_from(&self, from: usize) -> String {
        lock(&self.lines).get(from..).unwrap_or_default().join("\n")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
