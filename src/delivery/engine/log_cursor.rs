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
    /// Creates a cursor that has read the log up to `read_to` and does not lag: the node passes it each later event.
    /// `versions`: the subscription's patterns over time.
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

    /// Creates a cursor that has read the log up to `read_to`, and must read the log by itself until it has caught up
    /// with the node. `versions`: the subscription's patterns over time.
    pub(super) fn lagging(versions: Vec<Version>, read_to: Position) -> Self {
        let reading = Reading::Lagging { is_reading: false };
        Self { reading, ..Self::at_head(versions, read_to) }
    }

    /// Whether the subscription selects this event, by the event type patterns that it had at the event's position.
    pub(super) fn matches(&self, event: &Event, subscription: &Subscription) -> bool {
        version::matches_event(event, subscription.id, &subscription.tenant, &self.versions)
    }

    /// Sets the range of the log (after `after`, up to and including `up_to`) that the node processed before it owned
    /// the shard. The subscription's own reads must handle the commands in it.
    pub(super) fn set_missed(&mut self, after: Position, up_to: Position) {
        self.missed = Some((after, up_to));
    }

    /// Whether the position is in the range given to [`Self::set_missed`]. The subscription's own reads of the log must
    /// then handle the commands there.
    pub(super) fn is_missed(&self, position: Position) -> bool {
        self.missed.is_some_and(|(after, up_to)| after < position && position <= up_to)
    }

    /// Stores that the first attempt for the event at this position is recorded already, so that the queue does not
    /// attempt the event again.
    pub(super) fn set_attempted(&mut self, position: Position) {
        self.attempted.insert(position);
    }

    /// Handles a new matching event at the head of the log. Returns whether the caller must add the event to the queue.
    ///
    /// If the subscription lags, its own reads find the event later. If `has_capacity` is `false`, the subscription
    /// begins to lag before this event.
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

    /// Moves the reading position to an event that matches. Returns `true` if the caller must add the event to the
    /// queue; `false` if its first attempt is recorded already.
    pub(super) fn take_up(&mut self, position: Position) -> bool {
        self.read_to = position;
        let is_new = !self.attempted.remove(&position);
        if is_new {
            self.unfinished.add(position);
        }
        is_new
    }

    /// Whether the subscription lags and no read runs for it.
    pub(super) fn wants_read(&self) -> bool {
        self.reading == Reading::Lagging { is_reading: false }
    }

    /// Marks a read of the log as running, and returns the position after which the read must begin.
    pub(super) fn start_read(&mut self) -> Position {
        self.reading = Reading::Lagging { is_reading: true };
        self.read_to
    }

    /// Whether a read that began after `after` is still the current one. `false` for an outdated read: the node has
    /// lost and acquired the shard since, or events have expired.
    pub(super) fn is_expecting(&self, after: Position) -> bool {
        self.reading == Reading::Lagging { is_reading: true } && after == self.read_to
    }

    /// Ends a read that covered the log up to `scanned`. If `scanned` reaches `head`, the position that the node has
    /// processed, the subscription no longer lags.
    pub(super) fn finish_read(&mut self, scanned: Position, head: Position) {
        self.read_to = self.read_to.max(scanned);
        self.reading = if self.read_to >= head {
            Reading::Head
        } else {
            Reading::Lagging { is_reading: false }
        };
    }

    /// Ends a read whose result cannot be used. If the cursor still lags, [`Self::wants_read`] returns `true` again.
    pub(super) fn cancel_read(&mut self) {
        if self.is_lagging() {
            self.reading = Reading::Lagging { is_reading: false };
        }
    }

    /// Moves the reading position past the events at or below `up_to`, which retention has deleted. The caller must
    /// call [`Self::finish`] for each unfinished event among them that it removes.
    pub(super) fn expire(&mut self, up_to: Position) {
        self.attempted.retain(|position| *position > up_to);
        self.read_to = self.read_to.max(up_to);
    }

    /// Marks an event as finished: its first attempt has ended, or the event has expired. It then no longer holds the
    /// cursor back.
    pub(super) fn finish(&mut self, position: Position) {
        self.unfinished.finish(position);
    }

    /// Whether the event has been added to the queue and its first attempt has not ended.
    pub(super) fn is_unfinished(&self, position: Position) -> bool {
        self.unfinished.contains(position)
    }

    /// The highest position up to which every event is delivered or has a retry. `head`: the position up to which the
    /// node has processed the log.
    pub(super) fn position(&self, head: Position) -> Position {
        let taken_up = if self.is_lagging() { self.read_to } else { self.read_to.max(head) };
        self.unfinished.cursor().unwrap_or(taken_up)
    }

    /// Returns the position just before the oldest event whose first attempt has not ended: the cursor cannot pass it.
    /// `None`: no such event.
    pub(super) fn held_at(&self) -> Option<Position> {
        self.unfinished.cursor()
    }

    /// Whether the subscription reads the log by its own cursor, because it has not caught up with the node.
    pub(super) fn is_lagging(&self) -> bool {
        self.reading != Reading::Head
    }
}
