//! Shards between nodes: taken when free, handed over when another node has too few or this one stops, forgotten when the
//! database has failed over.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Running;
use super::effects;
use super::effects::fair_share;
use super::feed;
use crate::delivery::engine::LoadedSubscription;
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// How often a node alone, and one of several, looks for shards to take.
const SHARE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));
/// How long a shard that is handed to another node waits for what runs; what is cut off is made again there.
const HAND_OVER: Duration = Duration::from_millis(500);

impl Running {
    /// Hands all shards over: at once, or in the time there is where no other node waits for them.
    pub(crate) fn begin_stop(&mut self, deadline: Duration) {
        self.stopping = Some(Instant::now() + deadline);
        let wait = if self.nodes > 1 { HAND_OVER.min(deadline) } else { deadline };
        self.session.engine.begin_handover(usize::MAX, UnixMillis::now().after(wait));
        let (store, node) = (self.session.store.clone(), self.session.node);
        self.session.tasks.spawn(async move {
            if let Err(error) = store.update_leaving(node).await {
                tracing::warn!(%error, "other nodes are not told that this one stops");
            }
        });
    }

    /// Looks for shards to take, and for other nodes.
    pub(crate) fn share_when_due(&mut self) {
        let now = Instant::now();
        if self.is_sharing || self.is_loading || now < self.share_at {
            return;
        }
        self.is_sharing = true;
        let (store, held) = (self.session.store.clone(), self.session.engine.shards());
        self.send_out(effects::share(store, self.session.node, held));
    }

    pub(crate) fn take_shared(&mut self, shared: Result<(usize, Vec<OwnedShard>), StoreError>) {
        self.is_sharing = false;
        let (alone, of_several) = SHARE_EVERY;
        self.share_at = Instant::now() + if self.nodes > 1 { of_several } else { alone };
        match shared {
            Ok((nodes, taken)) => {
                self.nodes = nodes;
                if !taken.is_empty() {
                    self.is_loading = true;
                    self.send_out(effects::load(self.session.store.clone(), taken));
                } else if nodes > 1 {
                    let deadline = UnixMillis::now().after(HAND_OVER);
                    let surplus =
                        self.session.engine.retained_shards().saturating_sub(fair_share(nodes));
                    self.session.engine.begin_handover(surplus, deadline);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for shards to take"),
        }
    }

    pub(crate) fn take_loaded(
        &mut self,
        owned: &[OwnedShard],
        loaded: Result<(Vec<LoadedSubscription>, DeliveryState), StoreError>,
    ) {
        self.is_loading = false;
        match loaded {
            Ok((known, state)) => {
                tracing::info!(shards = owned.len(), node = %self.session.node, "delivering");
                self.session.engine.handle_shards_acquired(owned, known, state);
                if self.stopping.is_some() {
                    self.session.engine.begin_handover(usize::MAX, UnixMillis::now());
                }
                self.tell_acted();
                self.follow();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read how far the deliveries are");
                self.release(owned.iter().map(|owned| (owned.shard, owned.term)).collect());
            }
        }
    }

    /// Has the log come in from where the engine is, if it does not yet.
    fn follow(&mut self) {
        if self.items.is_none()
            && let Some(after) = self.session.engine.processed()
        {
            let (sender, items) = mpsc::channel(4);
            let (log, store) = (self.session.log.clone(), self.session.store.clone());
            self.session.tasks.spawn(feed::run(log, store, after, sender));
            self.items = Some(items);
        }
    }

    /// Gives back what is handed over and quiet.
    pub(crate) fn release_quiet(&mut self) {
        if self.is_flushing || !self.session.engine.is_handing_over() {
            return;
        }
        let quiet = self.session.engine.poll_released_shards(UnixMillis::now());
        if !quiet.is_empty() {
            self.release(quiet);
        }
    }

    fn release(&self, shards: Vec<(u16, i64)>) {
        tracing::info!(shards = shards.len(), node = %self.session.node, "handing shards over");
        let (store, node) = (self.session.store.clone(), self.session.node);
        // Not tied to this session: a stop waits for it.
        self.session.tasks.spawn(effects::release(store, node, shards));
    }

    /// Forgets what was learnt from another database server than the one that answers now.
    pub(crate) async fn take_renewal(&mut self) {
        if !self.session.lease.detect_failover(&mut self.server) {
            return;
        }
        tracing::warn!("the database has failed over: what was in memory is read anew");
        self.session.engine.handle_failover();
        self.items = None;
        self.session.log.set_applied(None);
        if let Err(error) = self.session.log.reload().await {
            tracing::warn!(%error, "cannot read the log's end after a failover");
        }
        self.share_at = Instant::now();
    }
}
