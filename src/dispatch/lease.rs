//! A node's lease on its shards: renewed every second, believed for less time than it is granted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::Store;

/// How long the lease is granted from each renewal.
const GRANTED: Duration = Duration::from_secs(5);
/// How long it is believed, counted from before the renewal was sent.
const BELIEVED: Duration = Duration::from_millis(3_500);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(1);

/// Until when this node may act as the owner of its shards.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    until: watch::Receiver<Instant>,
}

impl Lease {
    /// Whether the lease is to be believed now.
    pub(super) fn holds(&self) -> bool {
        *self.until.borrow() > Instant::now()
    }

    /// Waits for the next renewal, or for its end when nobody renews any more.
    pub(super) async fn renewed(&mut self) -> bool {
        self.until.changed().await.is_ok()
    }
}

/// A lease that does not hold yet, and the task that keeps renewing it for as long as the lease is in use.
pub(super) fn keep(store: Store, node: Uuid) -> (Lease, impl Future<Output = ()>) {
    let (sender, until) = watch::channel(Instant::now());
    (Lease { until }, renew(store, node, sender))
}

async fn renew(store: Store, node: Uuid, until: watch::Sender<Instant>) {
    loop {
        let asked = Instant::now();
        match store.renew_lease(node, GRANTED).await {
            Ok(()) => {
                until.send_replace(asked + BELIEVED);
            }
            Err(error) => tracing::warn!(%error, "cannot renew the lease on this node's shards"),
        }
        tokio::select! {
            () = tokio::time::sleep_until(asked + EVERY) => {}
            () = until.closed() => return,
        }
    }
}
