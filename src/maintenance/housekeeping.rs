//! Creates partitions ahead of time, and deletes rows that no longer have a purpose.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(600);

/// Runs housekeeping every ten minutes until `stop` is cancelled.
pub(crate) async fn run(store: Store, stop: CancellationToken) {
    loop {
        if let Err(error) = run_once(&store).await {
            tracing::warn!(%error, "housekeeping failed; the next attempt is in ten minutes");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Also cancels the replays of deleted subscriptions. Returns the first error at once. Safe to repeat and to run on
/// several nodes.
async fn run_once(store: &Store) -> Result<(), StoreError> {
    store.create_partitions().await?;
    while store.delete_old_responses().await? > 0 {}
    store.delete_dead_claims().await?;
    store.delete_state_of_deleted().await?;
    store.cancel_replays_of_deleted().await?;
    store.delete_verifications().await?;
    store.delete_dead_nodes().await?;
    Ok(())
}
