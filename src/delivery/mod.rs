//! Delivery to callbacks: takes its share of the shards, and delivers the events of their subscriptions.

pub(crate) mod driver;
mod engine;
pub(crate) mod verification;
pub(crate) mod webhook;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::driver::{Session, lease};
use self::engine::Engine;
use self::verification::Verifier;
pub(crate) use self::verification::VerifierSettings;
use self::webhook::Deliverer;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::proxy::Egress;
use crate::log::Log;
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};

/// Delivers the events of a node's shards.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    node: NodeName,
    log: Log,
    store: Store,
    deliverer: Deliverer,
    verifier: Verifier,
    schedule: RetrySchedule,
    tasks: TaskTracker,
}

impl Dispatcher {
    /// A dispatcher that takes nothing up before [`Self::run`].
    pub(crate) fn new(
        node: NodeName,
        log: Log,
        store: Store,
        (egress, schedule, verification): (Egress, RetrySchedule, VerifierSettings),
        tasks: TaskTracker,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let deliverer = Deliverer::new(egress)?;
        let verifier = Verifier::new(deliverer.clone(), verification);
        Ok(Self { node, log, store, deliverer, verifier, schedule, tasks })
    }

    /// Puts the node on the list of those that are waited for, before it answers anybody.
    pub(crate) async fn enlist(&self) -> Result<(), StoreError> {
        self.store.renew_lease(&self.node, lease::GRANTED_FOR, self.log.head()).await.map(drop)
    }

    /// Works until `stop`; then what runs may come to an end for at most `deadline`. Returns how many deliveries were
    /// still running then: another node, or the next start, makes them again.
    pub(crate) async fn run(self, stop: CancellationToken, deadline: Duration) -> usize {
        let (lease, renewing) =
            lease::keep_renewed(self.store.clone(), self.node.clone(), self.log.clone());
        self.tasks.spawn(renewing);
        let keys = self.log.keys().clone();
        let session = Session {
            node: self.node.id,
            engine: Engine::new(self.schedule),
            log: self.log,
            store: self.store.clone(),
            deliverer: self.deliverer,
            verifier: self.verifier,
            lease,
            tasks: self.tasks,
        };
        let left = session.run(stop, deadline).await;
        keys.retire();
        if let Err(error) = self.store.forget_node(self.node.id).await {
            tracing::warn!(%error, "cannot give this node's shards back; others take them when its lease runs out");
        }
        left
    }
}
