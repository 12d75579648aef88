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
/// Invariant: the cursor passes an event only once its delivery has ended, or its retry is recorded or among the
/// results of the same flush.
#[derive(Debug)]
pub(super) struct LogCursor {
    /// The subscription's patterns over time, oldest first.
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
    /// A cursor that follows the node, from `read_to` on.
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

    /// A cursor that reads the log by itself until it has caught up with the node.
    pub(super) fn lagging(versions: Vec<Version>, read_to: Position) -> Self {
        let reading = Reading::Lagging { is_reading: false };
        Self { reading, ..Self::at_head(versions, read_to) }
    }

    /// By the event type patterns at the event's position.
    pub(super) fn matches(&self, event: &Event, subscription: &Subscription) -> bool {
        version::matches_event(event, subscription.id, &subscription.tenant, &self.versions)
    }

    /// Sets the range (`up_to` inclusive) that the node processed before it owned the shard.
    pub(super) fn set_missed(&mut self, after: Position, up_to: Position) {
        self.missed = Some((after, up_to));
    }

    /// Whether the subscription's own reads must handle the commands at this position: see [`Self::set_missed`].
    pub(super) fn is_missed(&self, position: Position) -> bool {
        self.missed.is_some_and(|(after, up_to)| after < position && position <= up_to)
    }

    /// The first attempt for this event is recorded already, and is not repeated.
    pub(super) fn set_attempted(&mut self, position: Position) {
        self.attempted.insert(position);
    }

    /// Whether the caller must add the new matching event. Without capacity the subscription begins to lag.
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

    /// Moves the reading position to a matching event. `false` if its first attempt is recorded already.
    pub(super) fn take_up(&mut self, position: Position) -> bool {
        self.read_to = position;
        let is_new = !self.attempted.remove(&position);
        if is_new {
            self.unfinished.add(position);
        }
        is_new
    }

    /// Whether the subscription lags and no read runs.
    pub(super) fn wants_read(&self) -> bool {
        self.reading == Reading::Lagging { is_reading: false }
    }

    /// Returns the position after which to read.
    pub(super) fn start_read(&mut self) -> Position {
        self.reading = Reading::Lagging { is_reading: true };
        self.read_to
    }

    /// Whether the result of a read from `after` on may be used. `false` if it is outdated: the shard was lost and
    /// acquired again in the meantime, or events have expired.
    pub(super) fn is_expecting(&self, after: Position) -> bool {
        self.reading == Reading::Lagging { is_reading: true } && after == self.read_to
    }

    /// Ends a read that covered the log up to `scanned`. At `head`, the subscription no longer lags.
    pub(super) fn finish_read(&mut self, scanned: Position, head: Position) {
        self.read_to = self.read_to.max(scanned);
        self.reading = if self.read_to >= head {
            Reading::Head
        } else {
            Reading::Lagging { is_reading: false }
        };
    }

    /// Ends a read whose result cannot be used.
    pub(super) fn cancel_read(&mut self) {
        if self.is_lagging() {
            self.reading = Reading::Lagging { is_reading: false };
        }
    }

    /// Skips the events at or below `up_to`. The caller must [`Self::finish`] each unfinished one that it removes.
    pub(super) fn expire(&mut self, up_to: Position) {
        self.attempted.retain(|position| *position > up_to);
        self.read_to = self.read_to.max(up_to);
    }

    /// The first attempt has ended, or the event has expired: it no longer holds the cursor back.
    pub(super) fn finish(&mut self, position: Position) {
        self.unfinished.finish(position);
    }

    /// Whether the event is in the queue and its first attempt has not ended.
    pub(super) fn is_unfinished(&self, position: Position) -> bool {
        self.unfinished.contains(position)
    }

    /// The position up to which the first attempt of every event has ended. `head`: the position up to which the node
    /// has processed the log.
    pub(super) fn position(&self, head: Position) -> Position {
        let taken_up = if self.is_lagging() { self.read_to } else { self.read_to.max(head) };
        self.unfinished.cursor().unwrap_or(taken_up)
    }

    /// Just before the oldest event whose first attempt has not ended. `None`: there is none.
    pub(super) fn held_at(&self) -> Option<Position> {
        self.unfinished.cursor()
    }

    pub(super) fn is_lagging(&self) -> bool {
        self.reading != Reading::Head
    }
}
