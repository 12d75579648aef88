//! Shards come and go: taken over from where they stand, handed over when they are quiet, lost to another node.

use std::collections::HashMap;
use std::sync::Arc;

use super::queue::SubscriptionQueue;
use super::{Engine, LoadedSubscription};
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::delivery::shard::shard_of;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

impl Engine {
    /// Takes shards over, with their subscriptions and where these stand.
    ///
    /// The first ones say from where the log is taken; of later ones, subscriptions whose cursor is further back read
    /// by themselves until they have caught up.
    pub(crate) fn handle_shards_acquired(
        &mut self,
        owned: &[OwnedShard],
        known: Vec<LoadedSubscription>,
        state: DeliveryState,
    ) {
        let lowest = owned.iter().map(|shard| shard.cursor).min().unwrap_or_default();
        let processed = *self.processed.get_or_insert(lowest);
        for shard in owned {
            self.ownership.add(shard);
            self.results.add_shard(shard);
        }
        let shards: HashMap<u16, Position> =
            owned.iter().map(|shard| (shard.shard, shard.cursor)).collect();
        let cursors: HashMap<_, _> = state.cursors.into_iter().collect();
        let mut ids = Vec::new();
        for known in known {
            let Some(cursor) = shards.get(&known.subscription.shard()) else { continue };
            let id = known.subscription.id;
            // It takes nothing up to where it stands, and what comes after that under the patterns of that place.
            let own = cursors.get(&id);
            self.put_in_force(&known, processed.max(*own.unwrap_or(cursor)));
            let subscription = Arc::new(known.subscription);
            self.look_for_handshake(&subscription);
            let mut queue = match own {
                Some(own) => SubscriptionQueue::behind(subscription, known.versions, *own, true),
                None if *cursor < processed => {
                    SubscriptionQueue::behind(subscription, known.versions, *cursor, false)
                }
                None => SubscriptionQueue::at_head(subscription, known.versions, *cursor),
            };
            queue.note_missed(*cursor, processed);
            self.queues.insert(id, queue);
            ids.push(id);
        }
        self.restore_results(state.tried, state.retries, state.replays);
        for id in ids {
            self.touch(id);
        }
    }

    /// Begins to hand so many more shards over, by `deadline` at the latest.
    pub(crate) fn begin_handover(&mut self, most: usize, deadline: UnixMillis) {
        for shard in self.ownership.staying().into_iter().take(most) {
            self.ownership.hand_over(shard, deadline);
        }
    }

    /// How many shards are owned and not being handed over.
    pub(crate) fn retained_shards(&self) -> usize {
        self.ownership.staying().len()
    }

    /// Whether shards are being handed over.
    pub(crate) fn is_handing_over(&self) -> bool {
        self.ownership.is_handing_over()
    }

    /// Lets those shards go that are handed over and quiet, with all on record: shard and term.
    pub(crate) fn poll_released_shards(&mut self, now: UnixMillis) -> Vec<(u16, i64)> {
        let mut quiet = self.ownership.quiet(now);
        quiet.retain(|(shard, _)| !self.results.has_of(*shard));
        self.handle_shards_lost(&quiet.iter().map(|(shard, _)| *shard).collect::<Vec<_>>());
        quiet
    }

    /// Another node owns these shards.
    pub(crate) fn handle_shards_lost(&mut self, shards: &[u16]) {
        for shard in shards {
            self.ownership.remove(*shard);
            self.results.remove_shard(*shard);
        }
        let ids: Vec<_> =
            self.queues.keys().copied().filter(|id| shards.contains(&shard_of(*id))).collect();
        for id in ids {
            self.forget(id);
        }
    }

    /// Drops every shard: the database has failed over, and another server may know less than this node has read.
    ///
    /// The cursors of the next shards acquired decide again where the driver reads the log from.
    pub(crate) fn handle_failover(&mut self) {
        self.handle_shards_lost(&self.ownership.all());
        self.processed = None;
    }

    /// The shards owned.
    pub(crate) fn shards(&self) -> Vec<u16> {
        self.ownership.all()
    }
}
