//! Shards of this node: acquires free ones up to its fair share, hands surplus ones over, releases all at a stop, and
//! forgets them after a failover.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::effects::{self, Shares, fair_share};
use super::feed;
use super::state::Driver;
use crate::delivery::engine::LoadedSubscription;
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// How often the only node looks for free shards.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How often each of several nodes looks for free shards.
const SHARED_ACQUIRE_INTERVAL: Duration = Duration::from_millis(200);
/// Time for the attempts in flight of a shard that another node is to take. The other node repeats those that are cut
/// off.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(500);
/// Pages of the log that wait for the engine.
const FEED_CAPACITY: usize = 4;

impl Driver {
    /// Begins to hand over all shards, and announces the stop to other nodes. Attempts in flight have
    /// [`HANDOVER_TIMEOUT`] if other nodes are alive, else the whole stop timeout.
    pub(super) fn begin_stop(&mut self) {
        let timeout = self.stop_timeout;
        self.stop_at = Some(Instant::now() + timeout);
        let wait = if self.live_nodes > 1 { HANDOVER_TIMEOUT.min(timeout) } else { timeout };
        self.engine.begin_handover(usize::MAX, UnixMillis::now().after(wait));
        let (store, node) = (self.store.clone(), self.node);
        self.tasks.spawn(async move {
            if let Err(error) = store.update_leaving(node).await {
                tracing::warn!(%error, "cannot announce to other nodes that this node stops");
            }
        });
    }

    /// Does nothing while shards are being acquired or loaded, or before the interval has passed.
    pub(super) fn acquire_shards_when_due(&mut self) {
        if self.is_acquiring || self.is_loading || Instant::now() < self.acquire_shards_at {
            return;
        }
        self.is_acquiring = true;
        let (store, held) = (self.store.clone(), self.engine.shards());
        self.start(effects::acquire_shards(store, self.node, held));
    }

    /// Loads the acquired shards; if none, hands over those beyond this node's fair share. An error changes no shard.
    pub(super) fn handle_shares(&mut self, shares: Result<Shares, StoreError>) {
        self.is_acquiring = false;
        let interval = if self.live_nodes > 1 { SHARED_ACQUIRE_INTERVAL } else { ACQUIRE_INTERVAL };
        self.acquire_shards_at = Instant::now() + interval;
        match shares {
            Ok(Shares { live_nodes, acquired }) => {
                self.live_nodes = live_nodes;
                if !acquired.is_empty() {
                    self.is_loading = true;
                    self.start(effects::load_shards(self.store.clone(), acquired));
                } else if live_nodes > 1 {
                    let deadline = UnixMillis::now().after(HANDOVER_TIMEOUT);
                    let surplus =
                        self.engine.retained_shard_count().saturating_sub(fair_share(live_nodes));
                    self.engine.begin_handover(surplus, deadline);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for free shards; retrying"),
        }
    }

    /// Adds the loaded shards to the engine, and starts to read the log. If loading failed, releases the shards.
    pub(super) fn handle_loaded(
        &mut self,
        shards: &[OwnedShard],
        loaded: Result<(Vec<LoadedSubscription>, DeliveryState), StoreError>,
    ) {
        self.is_loading = false;
        match loaded {
            Ok((subscriptions, state)) => {
                tracing::info!(shards = shards.len(), node = %self.node, "acquired shards");
                self.engine.handle_shards_acquired(shards, subscriptions, state);
                if self.stop_at.is_some() {
                    self.engine.begin_handover(usize::MAX, UnixMillis::now());
                }
                self.record_applied_position();
                self.follow_log();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot load the subscriptions of acquired shards; releasing them");
                self.release(shards.iter().map(|owned| (owned.shard, owned.term)).collect());
            }
        }
    }

    /// Starts to read the log from the engine's position, unless a task does so already or no shard was owned yet.
    fn follow_log(&mut self) {
        if self.log_entries.is_none()
            && let Some(after) = self.engine.processed()
        {
            let (sender, log_entries) = mpsc::channel(FEED_CAPACITY);
            let (log, store) = (self.log.clone(), self.store.clone());
            self.tasks.spawn(feed::run(log, store, after, sender));
            self.log_entries = Some(log_entries);
        }
    }

    /// Releases the shards whose handover is complete. Does nothing while a flush is in flight.
    pub(super) fn release_shards(&mut self) {
        if self.is_flushing || !self.engine.is_handing_over() {
            return;
        }
        let released = self.engine.poll_released_shards(UnixMillis::now());
        if !released.is_empty() {
            self.release(released);
        }
    }

    fn release(&self, shards: Vec<(u16, i64)>) {
        tracing::info!(shards = shards.len(), node = %self.node, "releasing shards");
        let (store, node) = (self.store.clone(), self.node);
        // Not cancelled when the driver ends: a stop waits for this task.
        self.tasks.spawn(effects::release_shards(store, node, shards));
    }

    /// If the database has failed over, forgets all shards and the log position: the new server may lack what was read.
    pub(super) async fn handle_renewal(&mut self) {
        if !self.lease.detect_failover(&mut self.server) {
            return;
        }
        tracing::warn!("the database has failed over; reloading everything from the new server");
        self.engine.handle_failover();
        self.log_entries = None;
        self.log.set_applied(None);
        if let Err(error) = self.log.reload().await {
            tracing::warn!(%error, "cannot read the end of the log after a failover");
        }
        self.acquire_shards_at = Instant::now();
    }
}
