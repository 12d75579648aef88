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
    /// The higher number of attempts; delivered if either is.
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
    pub(super) fn new(subscription: SubscriptionId, progress: ReplayProgress) -> Self {
        let (waiting, unrecorded) = (HashSet::new(), HashMap::new());
        Self { subscription, progress, is_reading: false, waiting, unrecorded }
    }

    /// A new replay. `waiting`: the events that have a retry now, which the replay skips.
    pub(super) fn requested(
        subscription: SubscriptionId,
        progress: ReplayProgress,
        waiting: HashSet<Position>,
    ) -> Self {
        Self { waiting, ..Self::new(subscription, progress) }
    }

    /// Remembers an attempt for an event that is not read yet: the database may not contain it then.
    pub(super) fn note(&mut self, attempt: &AttemptSummary) {
        if attempt.subscription == self.subscription && attempt.position > self.progress.position {
            let history = History { attempts: attempt.number, is_delivered: attempt.is_delivered };
            let known = self.unrecorded.entry(attempt.position).or_default();
            *known = known.merge(history);
        }
    }

    /// Also forgets the attempts remembered at or below `position`.
    pub(super) fn advance(&mut self, position: Position) {
        self.progress.position = position;
        self.unrecorded.retain(|ahead, _| *ahead > position);
    }

    /// The number of earlier attempts. `None`: the replay must not repeat this delivery.
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
