//! Delivery to receivers: owns some of the shards, and sends the events of their subscriptions.

mod driver;
mod engine;
mod verification;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::driver::{Driver, DriverParts, lease};
use self::engine::Engine;
use self::verification::Verifier;
pub(crate) use self::verification::VerifierSettings;
use self::webhook::Deliverer;
use crate::access::keys::Keys;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::policy::EgressPolicy;
use crate::egress::BuildError;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};

/// Delivers the events of a node's shards.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    parts: Parts,
    deliverer: Deliverer,
    verifier: Verifier,
    schedule: RetrySchedule,
}

/// The parts of the hub that delivery works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub node: NodeName,
    pub log: Log,
    pub store: Store,
    pub keys: Keys,
    pub metrics: Arc<Metrics>,
    pub tasks: TaskTracker,
}

#[derive(Debug)]
pub(crate) struct DispatcherSettings {
    pub egress: EgressPolicy,
    /// For subscriptions without a schedule of their own.
    pub schedule: RetrySchedule,
    pub verifier: VerifierSettings,
}

impl Dispatcher {
    /// Fails if the HTTP clients cannot be built.
    pub(crate) fn new(parts: Parts, settings: DispatcherSettings) -> Result<Self, BuildError> {
        let DispatcherSettings { egress, schedule, verifier } = settings;
        let deliverer = Deliverer::new(egress)?;
        let verifier = Verifier::new(deliverer.clone(), verifier);
        Ok(Self { parts, deliverer, verifier, schedule })
    }

    /// Grants the first lease. Must precede serving: API calls on other nodes wait for nodes with a lease.
    pub(crate) async fn register_node(&self) -> Result<(), StoreError> {
        let Parts { node, log, store, .. } = &self.parts;
        store.renew_lease(node, lease::GRANTED_FOR, log.head()).await.map(drop)
    }

    /// Delivers until `stop`. Then waits up to `stop_timeout` for attempts in flight and releases the shards, and after
    /// `requests_ended` the lease. Returns the number of attempts cut off, which another node, or this one after a
    /// restart, repeats.
    ///
    /// A revocation waits only for nodes with a lease, so the lease must outlast every request.
    pub(crate) async fn run(
        self,
        stop: CancellationToken,
        stop_timeout: Duration,
        requests_ended: CancellationToken,
    ) -> usize {
        let Parts { node, log, store, keys, metrics, tasks } = self.parts;
        let id = node.id;
        let (lease, renewing) = lease::keep_renewed(store.clone(), node, log.clone(), keys.clone());
        tasks.spawn(renewing);
        let driver = Driver::new(DriverParts {
            node: id,
            engine: Engine::new(self.schedule),
            log,
            store: store.clone(),
            metrics,
            deliverer: self.deliverer,
            verifier: self.verifier,
            lease: lease.clone(),
            tasks,
            stop_timeout,
        });
        let cut_off = driver.run(stop).await;
        if let Err(error) = store.release_all_shards(id).await {
            tracing::warn!(%error, "cannot release this node's shards; other nodes take them when its lease expires");
        }
        requests_ended.cancelled().await;
        drop(lease);
        keys.stop_trusting();
        if let Err(error) = store.delete_node(id).await {
            tracing::warn!(%error, "cannot delete this node's row; its lease expires");
        }
        cut_off
    }
}
