//! The ledger: every published event, and the id with which the hub acknowledged it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

/// An event that a publisher sent. Its number is its index in the ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishedEvent {
    /// Index of the node that received the last request.
    pub(crate) node: usize,
    /// When the hub acknowledged the event, or else when it was sent; milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// The event's id, if a node responded 202.
    pub(crate) acknowledged: Option<Position>,
}

/// Everything that the publishers know.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    events: Mutex<Vec<PublishedEvent>>,
    responses: Mutex<BTreeMap<String, usize>>,
    violations: Mutex<Vec<String>>,
}

impl Ledger {
    /// Adds an event that is about to be sent, and returns its number.
    pub(crate) fn add_event(&self) -> usize {
        let mut events = lock(&self.events);
        let at_ms = UnixMillis::now().as_i64();
        events.push(PublishedEvent { node: 0, at_ms, acknowledged: None });
        events.len() - 1
    }

    /// Records the id with which a node acknowledged an event.
    pub(crate) fn record_acknowledged(&self, number: usize, node: usize, id: Position) {
        if let Some(event) = lock(&self.events).get_mut(number) {
            let at_ms = UnixMillis::now().as_i64();
            *event = PublishedEvent { node, at_ms, acknowledged: Some(id) };
        }
    }

    /// Counts a response by its status, or by the reason why there was none.
    pub(crate) fn count_response(&self, status: &str) {
        *lock(&self.responses).entry(status.to_owned()).or_default() += 1;
    }

    /// Records a response that breaks the contract.
    pub(crate) fn record_violation(&self, description: String) {
        lock(&self.violations).push(description);
    }

    pub(crate) fn events(&self) -> Vec<PublishedEvent> {
        lock(&self.events).clone()
    }

    /// The id of each acknowledged event, indexed by number.
    pub(crate) fn acknowledged(&self) -> Vec<Option<Position>> {
        lock(&self.events).iter().map(|event| event.acknowledged).collect()
    }

    pub(crate) fn responses(&self) -> BTreeMap<String, usize> {
        lock(&self.responses).clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
