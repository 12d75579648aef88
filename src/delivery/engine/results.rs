//! Results that the next flush records.

use std::collections::{BTreeSet, HashMap};

use super::cursors::CursorChanges;
use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

/// The part of an attempt that replays need.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptSummary {
    pub(super) subscription: SubscriptionId,
    pub(super) position: Position,
    pub(super) number: u16,
    pub(super) is_delivered: bool,
}

impl AttemptSummary {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            subscription: attempt.subscription,
            position: attempt.position,
            number: attempt.number,
            is_delivered: matches!(attempt.status, Some(200..=299)),
        }
    }
}

/// Results that are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Results {
    attempts: Vec<Attempt>,
    /// The attempts of the latest flush, which may still be in flight.
    in_flush: Vec<AttemptSummary>,
    retries: HashMap<(SubscriptionId, Position), Option<Retry>>,
    replays: HashMap<ReplayId, (SubscriptionId, ReplayProgress)>,
}

impl Results {
    /// Drops the shard's results. The new owner repeats these attempts.
    pub(super) fn remove_shard(&mut self, shard: u16) {
        self.attempts.retain(|attempt| shard_of(attempt.subscription) != shard);
        self.retries.retain(|(id, _), _| shard_of(*id) != shard);
        self.replays.retain(|_, (id, _)| shard_of(*id) != shard);
    }

    pub(super) fn shards(&self) -> BTreeSet<u16> {
        let attempts = self.attempts.iter().map(|attempt| attempt.subscription);
        let retries = self.retries.keys().map(|(id, _)| *id);
        let replays = self.replays.values().map(|(id, _)| *id);
        attempts.chain(retries).chain(replays).map(shard_of).collect()
    }

    pub(super) fn add_attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// The attempts of the latest flush and of the next one: all that may not be in the database yet.
    pub(super) fn unrecorded(&self) -> impl Iterator<Item = AttemptSummary> {
        self.in_flush.iter().copied().chain(self.attempts.iter().map(AttemptSummary::of))
    }

    /// Replaces an earlier value. `None`: the flush removes the retry from the database.
    pub(super) fn set_retry(
        &mut self,
        id: SubscriptionId,
        position: Position,
        retry: Option<Retry>,
    ) {
        self.retries.insert((id, position), retry);
    }

    pub(super) fn set_replay(
        &mut self,
        id: ReplayId,
        subscription: SubscriptionId,
        progress: ReplayProgress,
    ) {
        self.replays.insert(id, (subscription, progress));
    }

    /// Drops the subscription's retries. Its attempts and replays are recorded.
    pub(super) fn remove_subscription(&mut self, id: SubscriptionId) {
        self.retries.retain(|(other, _), _| *other != id);
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len() + self.retries.len() + self.replays.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `cursors` may be recorded only in the same transaction as these results.
    pub(super) fn take(&mut self, cursors: CursorChanges) -> Flush {
        self.in_flush = self.attempts.iter().map(AttemptSummary::of).collect();
        let retries = self.retries.drain().map(|((id, position), retry)| (id, position, retry));
        let replays = self.replays.drain();
        Flush {
            shards: cursors.shards,
            attempts: std::mem::take(&mut self.attempts),
            retries: retries.collect(),
            cursors: cursors.own,
            replays: replays.map(|(id, (owner, progress))| (id, owner, progress)).collect(),
            sent_before: false,
        }
    }
}
