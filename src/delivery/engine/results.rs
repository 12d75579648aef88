//! What is to be recorded in the next commit, and how far the cursors may move with it.

use std::collections::HashMap;
use std::time::Duration;

use super::queue::SubscriptionQueue;
use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A subscription whose oldest unfinished event is older than this gets a cursor of its own, so that the shard's can
/// go on.
const LAGGING: Duration = Duration::from_secs(2);

/// What came of an attempt, in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) subscription: SubscriptionId,
    pub(crate) position: Position,
    pub(crate) number: u16,
    pub(crate) is_delivered: bool,
}

impl Noted {
    /// Of this attempt.
    pub(crate) fn of(attempt: &Attempt) -> Self {
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
pub(crate) struct Results {
    /// Owned shards, by number: term and cursor as last recorded.
    shards: HashMap<u16, (i64, Position)>,
    attempts: Vec<Attempt>,
    /// Attempts of the commit that was taken last; it may still be under way.
    taken: Vec<Noted>,
    retries: HashMap<(SubscriptionId, Position), Option<Retry>>,
    replays: HashMap<ReplayId, (SubscriptionId, ReplayProgress)>,
}

impl Results {
    /// One more shard is owned.
    pub(crate) fn add_shard(&mut self, shard: &OwnedShard) {
        self.shards.insert(shard.shard, (shard.term, shard.cursor));
    }

    /// One shard less is owned: what is not recorded of it is left to its next owner.
    pub(crate) fn remove_shard(&mut self, shard: u16) {
        self.shards.remove(&shard);
        self.attempts.retain(|attempt| shard_of(attempt.subscription) != shard);
        self.retries.retain(|(id, _), _| shard_of(*id) != shard);
        self.replays.retain(|_, (id, _)| shard_of(*id) != shard);
    }

    /// Whether anything of this shard is not recorded.
    pub(crate) fn has_of(&self, shard: u16) -> bool {
        self.attempts.iter().any(|attempt| shard_of(attempt.subscription) == shard)
            || self.retries.keys().any(|(id, _)| shard_of(*id) == shard)
            || self.replays.values().any(|(id, _)| shard_of(*id) == shard)
    }

    /// An attempt was made.
    pub(crate) fn attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// Attempts that may not be on record.
    pub(crate) fn unrecorded(&self) -> impl Iterator<Item = Noted> {
        self.taken.iter().copied().chain(self.attempts.iter().map(Noted::of))
    }

    /// A delivery waits for its next attempt, or with `None` no longer does. Only the last word counts.
    pub(crate) fn retry(&mut self, id: SubscriptionId, position: Position, retry: Option<Retry>) {
        self.retries.insert((id, position), retry);
    }

    /// How far a replay has come. Only the last word counts.
    pub(crate) fn replay(
        &mut self,
        id: ReplayId,
        subscription: SubscriptionId,
        progress: ReplayProgress,
    ) {
        self.replays.insert(id, (subscription, progress));
    }

    /// A subscription is no more: nothing of it waits.
    pub(crate) fn forget(&mut self, id: SubscriptionId) {
        self.retries.retain(|(other, _), _| *other != id);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.attempts.len() + self.retries.len() + self.replays.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes them, with the cursors as they stand once these are recorded. `holding` are the queues that hold a
    /// cursor back or have one of their own; `head` is how far the log was acted on.
    pub(crate) fn take(
        &mut self,
        holding: &[&SubscriptionQueue],
        head: Position,
        now: UnixMillis,
        idle: bool,
    ) -> Option<Flush> {
        let mut shard_cursors: HashMap<u16, Position> = HashMap::new();
        let mut own: Vec<(SubscriptionId, Option<Position>, Position, bool)> = Vec::new();
        for queue in holding {
            let (id, cursor) = (queue.subscription.id, queue.cursor(head));
            let lags = queue.holds_cursor() && now.since(cursor.time()) > LAGGING;
            if queue.is_lagging() || queue.own_row.is_some() || lags {
                own.push((id, queue.own_row, cursor, queue.is_lagging()));
            } else {
                let shard = shard_cursors.entry(shard_of(id)).or_insert(cursor);
                *shard = cursor.min(*shard);
            }
        }
        // Never back: after a restart the log is read again from the lowest of all shards' cursors.
        let shard_cursor = |shard: u16| {
            let recorded =
                self.shards.get(&shard).map_or(Position::START, |(_, recorded)| *recorded);
            shard_cursors.get(&shard).copied().unwrap_or(head).max(recorded)
        };
        let cursors = changed_rows(own, shard_cursor);

        let touched = self.touched(&cursors, idle, shard_cursor);
        let touched =
            touched.into_iter().map(|shard| (shard, shard_cursor(shard))).collect::<Vec<_>>();
        let shards: Vec<_> = touched
            .into_iter()
            .filter_map(|(shard, cursor)| {
                let (term, recorded) = self.shards.get_mut(&shard)?;
                *recorded = cursor;
                Some((shard, *term, cursor))
            })
            .collect();
        if shards.is_empty() {
            return None;
        }
        self.taken = self.attempts.iter().map(Noted::of).collect();
        Some(Flush {
            shards,
            attempts: std::mem::take(&mut self.attempts),
            retries: self
                .retries
                .drain()
                .map(|((id, position), retry)| (id, position, retry))
                .collect(),
            cursors,
            replays: self
                .replays
                .drain()
                .map(|(id, (subscription, progress))| (id, subscription, progress))
                .collect(),
            sent_before: false,
        })
    }

    /// The shards that something is to be recorded of.
    fn touched(
        &self,
        cursors: &[(SubscriptionId, Option<Position>)],
        idle: bool,
        shard_cursor: impl Fn(u16) -> Position,
    ) -> Vec<u16> {
        let mut touched: Vec<u16> =
            self.attempts.iter().map(|attempt| shard_of(attempt.subscription)).collect();
        touched.extend(self.retries.keys().map(|(id, _)| shard_of(*id)));
        touched.extend(self.replays.values().map(|(id, _)| shard_of(*id)));
        touched.extend(cursors.iter().map(|(id, _)| shard_of(*id)));
        if idle {
            let moved = self
                .shards
                .iter()
                .filter(|(shard, (_, recorded))| shard_cursor(**shard) > *recorded);
            touched.extend(moved.map(|(shard, _)| *shard));
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

/// The rows to write of subscriptions with a cursor of their own: the row ends when it is back with all others and
/// no shard cursor stands above what it has resolved.
fn changed_rows(
    own: Vec<(SubscriptionId, Option<Position>, Position, bool)>,
    shard_cursor: impl Fn(u16) -> Position,
) -> Vec<(SubscriptionId, Option<Position>)> {
    own.into_iter()
        .filter_map(|(id, row, cursor, behind)| {
            let joins = !behind && cursor >= shard_cursor(shard_of(id));
            let wanted = (!joins).then_some(cursor);
            (row != wanted).then_some((id, wanted))
        })
        .collect()
}
