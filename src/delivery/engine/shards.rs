//! Shards that the node acquires, hands over or loses.

use std::collections::HashMap;
use std::sync::Arc;

use super::log_cursor::LogCursor;
use super::queue::SubscriptionQueue;
use super::{Engine, LoadedSubscription};
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::shard::{OwnedShard, shard_of};
use crate::domain::delivery::state::DeliveryState;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

impl Engine {
    /// Adds shards that this node has acquired, with their subscriptions and the recorded state of the deliveries.
    ///
    /// The lowest cursor of the first shards, or of the first after a failover, becomes [`Self::processed`].
    /// Subscriptions with a cursor of their own, or whose shard's cursor is below [`Self::processed`], start to lag.
    pub(crate) fn handle_shards_acquired(
        &mut self,
        owned: &[OwnedShard],
        subscriptions: Vec<LoadedSubscription>,
        state: DeliveryState,
    ) {
        let lowest = owned.iter().map(|shard| shard.cursor).min().unwrap_or_default();
        let processed = *self.processed.get_or_insert(lowest);
        for shard in owned {
            self.ownership.add(shard);
            self.cursors.add_shard(shard);
        }
        let shards: HashMap<u16, Position> =
            owned.iter().map(|shard| (shard.shard, shard.cursor)).collect();
        let cursors: HashMap<_, _> = state.cursors.into_iter().collect();
        let mut ids = Vec::new();
        for loaded in subscriptions {
            let Some(cursor) = shards.get(&loaded.subscription.shard()).copied() else { continue };
            let id = loaded.subscription.id;
            let own = cursors.get(&id).copied();
            // Events up to here do not enter the queue by matching, so the patterns here are the first that matter.
            self.match_patterns_at(&loaded, processed.max(own.unwrap_or(cursor)));
            let subscription = Arc::new(loaded.subscription);
            self.update_verification(&subscription);
            let versions = loaded.versions;
            let mut queue = if let Some(own) = own {
                SubscriptionQueue::with_own_cursor(subscription, versions, own)
            } else if cursor < processed {
                SubscriptionQueue::new(subscription, LogCursor::lagging(versions, cursor))
            } else {
                SubscriptionQueue::new(subscription, LogCursor::at_head(versions, cursor))
            };
            queue.log.set_missed(cursor, processed);
            self.queues.insert(id, queue);
            ids.push(id);
        }
        self.restore_state(state.attempted, state.retries, state.replays);
        for id in ids {
            self.reschedule(id);
        }
    }

    /// Adds recorded state to the queues. The caller must reschedule them.
    pub(super) fn restore_state(
        &mut self,
        attempted: Vec<(SubscriptionId, Position)>,
        retries: Vec<(SubscriptionId, Position, Retry)>,
        replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    ) {
        for (id, position) in attempted {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.log.set_attempted(position);
            }
        }
        for (id, position, retry) in retries {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.attempts.add_retry(position, retry);
                self.scheduler.add_retry(retry.due, id, position);
            }
        }
        self.restore_replays(replays);
    }

    /// Begins to hand over up to `max` shards. At `deadline`, they may be released even if attempts still run.
    pub(crate) fn begin_handover(&mut self, max: usize, deadline: UnixMillis) {
        for shard in self.ownership.retained().into_iter().take(max) {
            self.ownership.begin_handover(shard, deadline);
        }
    }

    /// The number of shards that are not being handed over.
    pub(crate) fn retained_shard_count(&self) -> usize {
        self.ownership.retained().len()
    }

    pub(crate) fn is_handing_over(&self) -> bool {
        self.ownership.is_handing_over()
    }

    /// Takes the shards (with terms) whose handover is complete, and forgets them. One with results that no flush has
    /// taken stays. The caller must have no flush in flight.
    pub(crate) fn poll_released_shards(&mut self, now: UnixMillis) -> Vec<(u16, i64)> {
        let unrecorded = self.results.shards();
        let mut released = self.ownership.releasable(now);
        released.retain(|(shard, _)| !unrecorded.contains(shard));
        self.handle_shards_lost(&released.iter().map(|(shard, _)| *shard).collect::<Vec<_>>());
        released
    }

    /// Forgets the shards, their subscriptions and the results that no flush has taken. Later results are ignored.
    pub(crate) fn handle_shards_lost(&mut self, shards: &[u16]) {
        for shard in shards {
            self.ownership.remove(*shard);
            self.cursors.remove_shard(*shard);
            self.results.remove_shard(*shard);
        }
        let ids: Vec<_> =
            self.queues.keys().copied().filter(|id| shards.contains(&shard_of(*id))).collect();
        for id in ids {
            self.remove_subscription(id);
        }
    }

    /// Forgets all shards, and how far the log was processed: the new server may lack entries that this node has read.
    pub(crate) fn handle_failover(&mut self) {
        self.handle_shards_lost(&self.ownership.all());
        self.processed = None;
    }

    /// Shards being handed over are included.
    pub(crate) fn shards(&self) -> Vec<u16> {
        self.ownership.all()
    }
}
