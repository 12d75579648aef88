//! Delivery to callbacks: takes the shards that are free, and works on them for as long as it owns them.

mod connecting;
mod deliver;
mod disable;
mod engine;
mod feed;
mod lease;
mod queue;
mod results;
mod session;
#[cfg(test)]
mod simulation;
mod unfinished;
mod watch;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::deliver::Deliverer;
use self::engine::Engine;
use self::lease::Lease;
use self::session::{End, Session};
use crate::log::Log;
use crate::store::shards::OwnedShard;
use crate::store::{Store, StoreError};
use crate::values::retry::RetrySchedule;
use crate::values::target::AllowedTargets;

/// How often a node without shards looks for free ones.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Delivers the events of a node's shards.
#[derive(Debug)]
pub struct Dispatcher {
    node: Uuid,
    log: Log,
    store: Store,
    deliverer: Deliverer,
    schedule: RetrySchedule,
    tasks: TaskTracker,
}

impl Dispatcher {
    /// A dispatcher that takes nothing up before [`Self::run`].
    pub fn new(
        node: Uuid,
        log: Log,
        store: Store,
        (allowed, schedule): (AllowedTargets, RetrySchedule),
        tasks: TaskTracker,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let deliverer = Deliverer::new(allowed)?;
        Ok(Self { node, log, store, deliverer, schedule, tasks })
    }

    /// Works until `stop`; then what runs may come to an end for at most `deadline`. Returns how many deliveries were
    /// still running then: another node, or the next start, makes them again.
    pub async fn run(self, stop: CancellationToken, deadline: Duration) -> usize {
        let (mut lease, renewing) = lease::keep(self.store.clone(), self.node);
        self.tasks.spawn(renewing);
        let mut left = 0;
        while let Some(owned) = self.take_shards(&mut lease, &stop).await {
            let session = match self.session(&owned, lease.clone()).await {
                Ok(session) => session,
                Err(error) => {
                    tracing::warn!(%error, "cannot read how far the deliveries are");
                    self.release().await;
                    continue;
                }
            };
            let delivering = &self.log.measures().delivering;
            delivering.own_shards(owned.len());
            tracing::info!(shards = owned.len(), node = %self.node, "delivering");
            let end = session.run(stop.clone(), deadline).await;
            delivering.own_shards(0);
            match end {
                End::Stopped(running) => left = running,
                End::Superseded => {
                    tracing::warn!("another node has taken shards of this one over");
                    self.release().await;
                }
            }
        }
        drop(lease);
        self.release().await;
        left
    }

    /// Waits until the lease holds and there are shards to own; `None` when it is time to stop.
    async fn take_shards(
        &self,
        lease: &mut Lease,
        stop: &CancellationToken,
    ) -> Option<Vec<OwnedShard>> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            if lease.holds() {
                match self.store.take_free_shards(self.node).await {
                    Ok(owned) if !owned.is_empty() => return Some(owned),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "cannot look for free shards"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = lease.renewed(), if !lease.holds() => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    async fn session(&self, owned: &[OwnedShard], lease: Lease) -> Result<Session, StoreError> {
        let shards: Vec<i16> =
            owned.iter().filter_map(|owned| i16::try_from(owned.shard).ok()).collect();
        // In this order: a subscription made in between is not among these, and comes by its entry in the log. The
        // other way round it would be here, and the cursor of its own not.
        let subscriptions = self.store.callbacks_of_shards(&shards).await?;
        let ids: Vec<i64> =
            subscriptions.iter().map(|subscription| subscription.id.stored()).collect();
        let versions = self.store.versions(&ids).await?;
        let state = self.store.delivery_state(&ids).await?;
        let known = feed::join(subscriptions, versions);
        Ok(Session {
            engine: Engine::new(self.schedule.clone(), owned, known, state),
            log: self.log.clone(),
            store: self.store.clone(),
            deliverer: self.deliverer.clone(),
            lease,
            tasks: self.tasks.clone(),
        })
    }

    async fn release(&self) {
        if let Err(error) = self.store.release_node(self.node).await {
            tracing::warn!(%error, "cannot give this node's shards back; another takes them when the lease runs out");
        }
    }
}
