//! The book: what was published, and what of it was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

/// An event that a publisher sent; its number is its place in the book.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// The node that was asked last.
    pub(crate) node: usize,
    /// When it was answered, or else sent, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Its id, if it was answered 202.
    pub(crate) acknowledged: Option<Position>,
}

/// All that publishers know.
#[derive(Debug, Default)]
pub(crate) struct Book {
    events: Mutex<Vec<Published>>,
    answers: Mutex<BTreeMap<String, usize>>,
    oddities: Mutex<Vec<String>>,
}

impl Book {
    /// A new event's number.
    pub(crate) fn open(&self) -> usize {
        let mut events = locked(&self.events);
        let at_ms = UnixMillis::now().as_i64();
        events.push(Published { node: 0, at_ms, acknowledged: None });
        events.len() - 1
    }

    /// Notes an event's id.
    pub(crate) fn acknowledge(&self, number: usize, node: usize, id: Position) {
        if let Some(event) = locked(&self.events).get_mut(number) {
            let at_ms = UnixMillis::now().as_i64();
            *event = Published { node, at_ms, acknowledged: Some(id) };
        }
    }

    /// Counts an answer.
    pub(crate) fn count(&self, answer: &str) {
        *locked(&self.answers).entry(answer.to_owned()).or_default() += 1;
    }

    /// Notes an answer that must not be.
    pub(crate) fn complain(&self, what: String) {
        locked(&self.oddities).push(what);
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Published> {
        locked(&self.events).clone()
    }

    /// The ids with which events were acknowledged, by their numbers.
    pub(crate) fn acknowledged(&self) -> Vec<Option<Position>> {
        locked(&self.events).iter().map(|event| event.acknowledged).collect()
    }

    /// How often each answer came.
    pub(crate) fn answers(&self) -> BTreeMap<String, usize> {
        locked(&self.answers).clone()
    }

    /// All that must not be.
    pub(crate) fn oddities(&self) -> Vec<String> {
        locked(&self.oddities).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
