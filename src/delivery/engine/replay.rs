//! A replay under way, and which of the deliveries in its range it repeats.

use std::collections::{HashMap, HashSet};

use super::results::AttemptSummary;
use crate::domain::delivery::replay::{RecordedDelivery, ReplayProgress};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

/// The state of a delivery within a replay.
#[derive(Debug, Clone, Copy, Default)]
struct History {
    attempts: u16,
    is_delivered: bool,
}

impl History {
    /// Combines two records of the same delivery: the result has the higher number of attempts, and is delivered if
    /// either record is.
    fn merge(self, other: Self) -> Self {
        let attempts = self.attempts.max(other.attempts);
        Self { attempts, is_delivered: self.is_delivered || other.is_delivered }
    }
}

#[derive(Debug)]
pub(super) struct Replay {
    pub(super) subscription: SubscriptionId,
    pub(super) progress: ReplayProgress,
    /// Whether a read runs.
    pub(super) is_reading: bool,
    /// Events that waited for a retry when the replay was requested. They get that retry and no other attempt.
    waiting: HashSet<Position>,
    /// Attempts ahead of the replay that may not be on record when it reads their record.
    unrecorded: HashMap<Position, History>,
}

impl Replay {
    /// Creates a replay that continues from progress that is recorded in the database.
    pub(super) fn new(subscription: SubscriptionId, progress: ReplayProgress) -> Self {
        let (waiting, unrecorded) = (HashSet::new(), HashMap::new());
        Self { subscription, progress, is_reading: false, waiting, unrecorded }
    }

    /// Creates a replay that was requested just now. `waiting`: the events of the subscription that have a retry now;
    /// the replay skips them.
    pub(super) fn requested(
        subscription: SubscriptionId,
        progress: ReplayProgress,
        waiting: HashSet<Position>,
    ) -> Self {
        Self { waiting, ..Self::new(subscription, progress) }
    }

    /// Remembers an ended attempt for an event that the replay has not read yet. When the replay reads the event, the
    /// database may not contain this attempt yet.
    pub(super) fn note(&mut self, attempt: &AttemptSummary) {
        if attempt.subscription == self.subscription && attempt.position > self.progress.position {
            let history = History { attempts: attempt.number, is_delivered: attempt.is_delivered };
            let known = self.unrecorded.entry(attempt.position).or_default();
            *known = known.merge(history);
        }
    }

    /// Moves the replay's progress to `position`, and forgets the attempts remembered at or below it.
    pub(super) fn advance(&mut self, position: Position) {
        self.progress.position = position;
        self.unrecorded.retain(|ahead, _| *ahead > position);
    }

    /// Returns the number of earlier attempts at the delivery of this event. `None`: the replay must not repeat this
    /// delivery. `recorded`: the recorded deliveries of the range that was read.
    pub(super) fn attempts_before(
        &self,
        position: Position,
        recorded: &[RecordedDelivery],
    ) -> Option<u16> {
        // An event that waits for a retry gets that one in any case.
        if self.waiting.contains(&position) {
            return None;
        }
        let recorded = recorded.iter().find(|recorded| recorded.position == position);
        let recorded = recorded.map(|recorded| History {
            attempts: recorded.attempts,
            is_delivered: recorded.is_delivered,
        });
        let known = recorded.into_iter().chain(self.unrecorded.get(&position).copied());
        let history = known.reduce(History::merge);
        let is_selected = self.progress.only.includes(history.map(|history| history.is_delivered));
        is_selected.then(|| history.map_or(0, |history| history.attempts))
    }
}
