//! How one subscription reads the log, and how far: at the head with its node, or by its own cursor while it lags.

use std::collections::HashSet;

use super::unfinished::Unfinished;
use crate::domain::event::Event;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::version::{self, Version};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The node offers each event to the subscription as it follows the log.
    Head,
    /// The subscription reads by its own cursor until it has caught up.
    Lagging { is_reading: bool },
}

/// Where one subscription stands in the log.
///
/// Invariant: the cursor passes an event only once its delivery has ended or its retry is among the results of the
/// same flush.
#[derive(Debug)]
pub(super) struct LogCursor {
    pub(super) versions: Vec<Version>,
    reading: Reading,
    /// The subscription has taken up all its events at or below.
    read_to: Position,
    unfinished: Unfinished,
    /// Events above the cursor whose result a former owner has recorded. They are not taken up again.
    attempted: HashSet<Position>,
    /// The range after the first and up to the second position, which the node processed before it owned the shard.
    missed: Option<(Position, Position)>,
}

impl LogCursor {
    /// A cursor that follows the head of the log from `read_to` on.
    pub(super) fn at_head(versions: Vec<Version>, read_to: Position) -> Self {
        Self {
            versions,
            reading: Reading::Head,
            read_to,
            unfinished: Unfinished::default(),
            attempted: HashSet::new(),
            missed: None,
        }
    }

    /// A cursor that has to catch up from `read_to` on.
    pub(super) fn lagging(versions: Vec<Version>, read_to: Position) -> Self {
        let reading = Reading::Lagging { is_reading: false };
        Self { reading, ..Self::at_head(versions, read_to) }
    }

    pub(super) fn matches(&self, event: &Event, subscription: &Subscription) -> bool {
        version::matches_event(event, subscription.id, &subscription.tenant, &self.versions)
    }

    /// Notes a range that the node processed before it owned the shard.
    pub(super) fn set_missed(&mut self, after: Position, up_to: Position) {
        self.missed = Some((after, up_to));
    }

    /// Whether the subscription must find the requests at this position by its own reading.
    pub(super) fn is_missed(&self, position: Position) -> bool {
        self.missed.is_some_and(|(after, up_to)| after < position && position <= up_to)
    }

    /// Notes an event whose result is on record.
    pub(super) fn set_attempted(&mut self, position: Position) {
        self.attempted.insert(position);
    }

    /// Offers an event at the head of the log. Returns whether the queue must take it in.
    ///
    /// Without capacity the subscription leaves the event and lags from here on.
    pub(super) fn accept(&mut self, position: Position, has_capacity: bool) -> bool {
        if self.is_lagging() || position <= self.read_to {
            return false;
        }
        if !has_capacity {
            self.read_to = position.previous();
            self.reading = Reading::Lagging { is_reading: false };
            return false;
        }
        self.take_up(position)
    }

    /// Moves on to an event. Returns whether the queue must take it in.
    pub(super) fn take_up(&mut self, position: Position) -> bool {
        self.read_to = position;
        let is_new = !self.attempted.remove(&position);
        if is_new {
            self.unfinished.add(position);
        }
        is_new
    }

    pub(super) fn wants_read(&self) -> bool {
        self.reading == Reading::Lagging { is_reading: false }
    }

    /// Starts a read after the returned position. [`Self::is_expecting`] recognises its result.
    pub(super) fn start_read(&mut self) -> Position {
        self.reading = Reading::Lagging { is_reading: true };
        self.read_to
    }

    /// Whether a read after `after` continues where the subscription stands. A former owner of the shard may have
    /// started it, and its events may have expired.
    pub(super) fn is_expecting(&self, after: Position) -> bool {
        self.reading == Reading::Lagging { is_reading: true } && after == self.read_to
    }

    /// Ends a read that examined the log up to `scanned`. The subscription has caught up once it reaches `head`.
    pub(super) fn finish_read(&mut self, scanned: Position, head: Position) {
        self.read_to = self.read_to.max(scanned);
        self.reading = if self.read_to >= head {
            Reading::Head
        } else {
            Reading::Lagging { is_reading: false }
        };
    }

    /// Ends a read without a result: the subscription wants it again.
    pub(super) fn cancel_read(&mut self) {
        if self.is_lagging() {
            self.reading = Reading::Lagging { is_reading: false };
        }
    }

    /// Moves past the events up to `up_to`, which retention has deleted. The caller finishes those taken up.
    pub(super) fn expire(&mut self, up_to: Position) {
        self.attempted.retain(|position| *position > up_to);
        self.read_to = self.read_to.max(up_to);
    }

    /// Ends the event's first attempt: it no longer holds the cursor back.
    pub(super) fn finish(&mut self, position: Position) {
        self.unfinished.finish(position);
    }

    pub(super) fn is_unfinished(&self, position: Position) -> bool {
        self.unfinished.contains(position)
    }

    /// The highest position up to which every event is delivered, or waits for a retry. `head` is how far the node has
    /// processed the log.
    pub(super) fn position(&self, head: Position) -> Position {
        let taken_up = if self.is_lagging() { self.read_to } else { self.read_to.max(head) };
        self.unfinished.cursor().unwrap_or(taken_up)
    }

    /// The position at which an unfinished event holds the cursor, if any does.
    pub(super) fn held_at(&self) -> Option<Position> {
        self.unfinished.cursor()
    }

    pub(super) fn is_lagging(&self) -> bool {
        self.reading != Reading::Head
    }
}
