//! What is to be recorded in the next commit, and how far the cursors may move with it.

use std::collections::HashMap;
use std::time::Duration;

use super::queue::SubscriptionQueue;
use crate::store::deliveries::{Attempt, Flush, Retry};
use crate::store::shards::OwnedShard;
use crate::values::id::SubscriptionId;
use crate::values::position::Position;
use crate::values::subscription::shard_of;
use crate::values::time::UnixMillis;

/// A subscription whose oldest unfinished event is older than this gets a cursor of its own, so that the shard's can
/// go on.
const LAGGING: Duration = Duration::from_secs(2);

/// Results that are not recorded yet.
#[derive(Debug)]
pub(super) struct Results {
    /// Owned shards, by number: term and cursor as last recorded.
    shards: HashMap<u16, (i64, Position)>,
    attempts: Vec<Attempt>,
    retries: HashMap<(SubscriptionId, Position), Option<Retry>>,
}

impl Results {
    /// Nothing yet, of these shards.
    pub(super) fn new(owned: &[OwnedShard]) -> Self {
        let shards = owned.iter().map(|shard| (shard.shard, (shard.term, shard.cursor))).collect();
        Self { shards, attempts: Vec::new(), retries: HashMap::new() }
    }

    /// An attempt was made.
    pub(super) fn attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// A delivery waits for its next attempt, or with `None` no longer does. Only the last word counts.
    pub(super) fn retry(&mut self, id: SubscriptionId, position: Position, retry: Option<Retry>) {
        self.retries.insert((id, position), retry);
    }

    /// A subscription is no more: nothing of it waits.
    pub(super) fn forget(&mut self, id: SubscriptionId) {
        self.retries.retain(|(other, _), _| *other != id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.attempts.len() + self.retries.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes them, with the cursors as they stand once these are recorded. `holding` are the queues that hold a
    /// cursor back or have one of their own; `head` is how far the log was acted on.
    pub(super) fn take(
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
            let lags = queue.holds_back() && now.since(cursor.time()) > LAGGING;
            if queue.is_behind() || queue.own_row.is_some() || lags {
                own.push((id, queue.own_row, cursor, queue.is_behind()));
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

        let mut touched: Vec<u16> =
            self.attempts.iter().map(|attempt| shard_of(attempt.subscription)).collect();
        touched.extend(self.retries.keys().map(|(id, _)| shard_of(*id)));
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
        (!shards.is_empty()).then(|| Flush {
            shards,
            attempts: std::mem::take(&mut self.attempts),
            retries: self
                .retries
                .drain()
                .map(|((id, position), retry)| (id, position, retry))
                .collect(),
            cursors,
        })
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
