//! What the tables need now and then: partitions ahead of time, old keys and leftovers forgotten.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

const EVERY: Duration = Duration::from_secs(600);

/// Keeps the tables in order until `stop`.
pub(crate) async fn run(store: Store, stop: CancellationToken) {
    loop {
        if let Err(error) = step(&store).await {
            tracing::warn!(%error, "housekeeping was cut short; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One round.
async fn step(store: &Store) -> Result<(), StoreError> {
    store.create_partitions().await?;
    while store.delete_old_responses().await? > 0 {}
    store.delete_dead_claims().await?;
    store.delete_state_of_deleted().await?;
    store.cancel_replays_of_deleted().await?;
    store.delete_verifications().await?;
    store.delete_dead_nodes().await?;
    Ok(())
}
