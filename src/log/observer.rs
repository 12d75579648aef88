//! The hook by which other parts of the hub follow the log without the log knowing them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::appender::AppendError;
use crate::domain::event::Event;
use crate::store::log::AppendOutcome;

/// A part of the hub that follows the log. All methods run in the middle of an append or a read: they must not block.
pub trait LogObserver: Debug + Send + Sync {
    /// Called with each new entry, in the order of the log, before any reader on this node can see the entry.
    fn handle_entry(&self, _entry: &Event) {}

    /// Called when entries may have been lost or missed, because another server has become the database. The observer
    /// must discard what it derived from entries.
    fn handle_history_lost(&self) {}

    /// Called after each request to append `events` events, with its result and the time that it took.
    fn handle_append(
        &self,
        _outcome: &Result<AppendOutcome, AppendError>,
        _events: usize,
        _took: Duration,
    ) {
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Observers(Arc<[Arc<dyn LogObserver>]>);

impl From<Vec<Arc<dyn LogObserver>>> for Observers {
    fn from(observers: Vec<Arc<dyn LogObserver>>) -> Self {
        Self(observers.into())
    }
}

impl Observers {
    pub(super) fn notify_entry(&self, entry: &Event) {
        self.0.iter().for_each(|observer| observer.handle_entry(entry));
    }

    pub(super) fn notify_history_lost(&self) {
        self.0.iter().for_each(|observer| observer.handle_history_lost());
    }

    pub(super) fn notify_append(
        &self,
        outcome: &Result<AppendOutcome, AppendError>,
        events: usize,
        took: Duration,
    ) {
        self.0.iter().for_each(|observer| observer.handle_append(outcome, events, took));
    }
}
