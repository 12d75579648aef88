//! Delivery to callbacks: takes its share of the shards, and delivers the events of their subscriptions.

pub(crate) mod driver;
mod engine;
pub(crate) mod verification;
pub(crate) mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::driver::{Session, lease};
use self::engine::Engine;
pub(crate) use self::verification::Asker;
use self::verification::Handshaker;
use self::webhook::Deliverer;
use crate::access::keys::Keys;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::proxy::Egress;
use crate::log::Log;
use crate::metrics::Measures;
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};

/// Delivers the events of a node's shards.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    parts: Parts,
    deliverer: Deliverer,
    handshaker: Handshaker,
    schedule: RetrySchedule,
}

/// The parts of the hub that delivery works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub node: NodeName,
    pub log: Log,
    pub store: Store,
    pub keys: Keys,
    pub metrics: Arc<Measures>,
    pub tasks: TaskTracker,
}

impl Dispatcher {
    /// A dispatcher that takes nothing up before [`Self::run`].
    pub(crate) fn new(
        parts: Parts,
        (egress, schedule, asker): (Egress, RetrySchedule, Asker),
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let deliverer = Deliverer::new(egress)?;
        let handshaker = Handshaker::new(deliverer.clone(), asker);
        Ok(Self { parts, deliverer, handshaker, schedule })
    }

    /// Puts the node on the list of those that are waited for, before it answers anybody.
    pub(crate) async fn enlist(&self) -> Result<(), StoreError> {
        let Parts { node, log, store, .. } = &self.parts;
        store.renew_lease(node, lease::GRANTED, log.head()).await.map(drop)
    }

    /// Works until `stop`; then what runs may come to an end for at most `deadline`. Returns how many deliveries were
    /// still running then: another node, or the next start, makes them again.
    pub(crate) async fn run(self, stop: CancellationToken, deadline: Duration) -> usize {
        let Parts { node, log, store, keys, metrics, tasks } = self.parts;
        let id = node.id;
        let (lease, renewing) = lease::keep(store.clone(), node, log.clone(), keys.clone());
        tasks.spawn(renewing);
        let session = Session {
            node: id,
            engine: Engine::new(self.schedule),
            log,
            store: store.clone(),
            metrics,
            deliverer: self.deliverer,
            handshaker: self.handshaker,
            lease,
            tasks,
        };
        let left = session.run(stop, deadline).await;
        keys.retire();
        if let Err(error) = store.forget_node(id).await {
            tracing::warn!(%error, "cannot give this node's shards back; others take them when its lease runs out");
        }
        left
    }
}
