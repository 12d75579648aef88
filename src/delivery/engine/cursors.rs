//! Positions up to which the recorded cursors may move: the cursor of each shard, and those of subscriptions that need
//! their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::queue::SubscriptionQueue;
use super::scheduler::pop_first_if;
use crate::domain::delivery::shard::{OwnedShard, shard_of};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A subscription gets a cursor of its own when its oldest unfinished event is older than this, so that the cursor of
/// its shard can move on.
const MAX_HOLD_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct ShardCursor {
    term: i64,
    /// The cursor in the latest flush. It never moves back.
    recorded: Position,
    /// The queues that hold the cursor back, and at which position.
    holding: BTreeSet<(Position, SubscriptionId)>,
}

impl ShardCursor {
    /// The highest value that the shard's cursor can have: below every event that holds it back, and at most `head`,
    /// the position up to which the node has processed the log. Never below the recorded value.
    fn position(&self, head: Position) -> Position {
        self.holding.first().map_or(head, |(position, _)| *position).max(self.recorded)
    }
}

/// The recorded cursors of the owned shards and their subscriptions.
///
/// A flush does not visit every queue: `holding` yields the shard's cursor at once, and `unsettled` names the
/// subscriptions that may need another cursor of their own, or none.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    shards: BTreeMap<u16, ShardCursor>,
    unsettled: BTreeSet<SubscriptionId>,
}

/// The circumstances of a flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlushContext {
    /// The position up to which the node has processed the log.
    pub(super) head: Position,
    pub(super) now: UnixMillis,
    /// Whether to record every shard whose cursor has moved.
    pub(super) is_idle: bool,
}

/// The cursors that one flush records.
#[derive(Debug)]
pub(super) struct CursorChanges {
    /// Shard, term and cursor.
    pub(super) shards: Vec<(u16, i64, Position)>,
    /// The subscriptions' own cursors. `None`: the shard's cursor covers the subscription again.
    pub(super) own: Vec<(SubscriptionId, Option<Position>)>,
}

impl Cursors {
    pub(super) fn add_shard(&mut self, shard: &OwnedShard) {
        let OwnedShard { shard, term, cursor: recorded } = *shard;
        self.shards.insert(shard, ShardCursor { term, recorded, holding: BTreeSet::new() });
    }

    pub(super) fn remove_shard(&mut self, shard: u16) {
        self.shards.remove(&shard);
    }

    /// Updates the indexes after a change of the queue.
    pub(super) fn update(&mut self, queue: &mut SubscriptionQueue) {
        let has_own = queue.is_lagging() || queue.recorded.own.is_some();
        if has_own {
            self.unsettled.insert(queue.id());
        }
        let holds_at = if has_own { None } else { queue.log.held_at() };
        self.set_hold(queue, holds_at);
    }

    pub(super) fn remove(&mut self, queue: &mut SubscriptionQueue) {
        self.set_hold(queue, None);
        self.unsettled.remove(&queue.id());
    }

    /// `None`: the queue no longer holds the cursor back.
    fn set_hold(&mut self, queue: &mut SubscriptionQueue, holds_at: Option<Position>) {
        let id = queue.id();
        let former = queue.recorded.holds_shard_at;
        if former == holds_at {
            return;
        }
        queue.recorded.holds_shard_at = holds_at;
        if let Some(shard) = self.shards.get_mut(&shard_of(id)) {
            if let Some(former) = former {
                shard.holding.remove(&(former, id));
            }
            if let Some(position) = holds_at {
                shard.holding.insert((position, id));
            }
        }
    }

    /// Returns the cursors to record and marks them as recorded: the subscriptions' own cursors that changed, with the
    /// cursors of their shards, and of the shards in `with_results`. An idle flush adds all shards whose cursor has
    /// moved.
    pub(super) fn advance(
        &mut self,
        queues: &mut HashMap<SubscriptionId, SubscriptionQueue>,
        with_results: BTreeSet<u16>,
        context: FlushContext,
    ) -> CursorChanges {
        let FlushContext { head, now, is_idle } = context;
        self.stop_long_holds(queues, now);
        let own = self.settle(queues, head);
        let mut changed = with_results;
        changed.extend(own.iter().map(|(id, _)| shard_of(*id)));
        let mut shards = Vec::new();
        for (shard, cursor) in &mut self.shards {
            let position = cursor.position(head);
            if changed.contains(shard) || is_idle && position > cursor.recorded {
                cursor.recorded = position;
                shards.push((*shard, cursor.term, position));
            }
        }
        CursorChanges { shards, own }
    }

    /// Lets the shards' cursors pass queues whose oldest unfinished event is older than [`MAX_HOLD_TIME`]:
    /// [`Self::settle`] gives these queues a cursor of their own.
    fn stop_long_holds(
        &mut self,
        queues: &mut HashMap<SubscriptionId, SubscriptionQueue>,
        now: UnixMillis,
    ) {
        for shard in self.shards.values_mut() {
            let is_too_old = |(position, _): &(Position, SubscriptionId)| {
                now.since(position.time()) > MAX_HOLD_TIME
            };
            while let Some((_, id)) = pop_first_if(&mut shard.holding, is_too_old) {
                self.unsettled.insert(id);
                if let Some(queue) = queues.get_mut(&id) {
                    queue.recorded.holds_shard_at = None;
                }
            }
        }
    }

    /// Returns the changes of subscriptions' own cursors; `None` removes one. A subscription needs none if it does not
    /// lag and its position is not below its shard's cursor.
    fn settle(
        &mut self,
        queues: &mut HashMap<SubscriptionId, SubscriptionQueue>,
        head: Position,
    ) -> Vec<(SubscriptionId, Option<Position>)> {
        let shards: BTreeMap<u16, Position> =
            self.shards.iter().map(|(shard, cursor)| (*shard, cursor.position(head))).collect();
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.unsettled) {
            let Some(queue) = queues.get_mut(&id) else { continue };
            let cursor = queue.cursor(head);
            let shard = shards.get(&shard_of(id)).copied().unwrap_or_default();
            let is_covered = !queue.is_lagging() && cursor >= shard;
            let own = (!is_covered).then_some(cursor);
            if own != queue.recorded.own {
                queue.recorded.own = own;
                changes.push((id, own));
            }
            if is_covered {
                self.update(queue);
            } else if !queue.is_lagging() && !queue.holds_cursor() {
                // The cursor follows the head, without a change of the queue.
                self.unsettled.insert(id);
            }
        }
        changes
    }
}
