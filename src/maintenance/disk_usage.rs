//! Measures the size of the tables and the age of the oldest event.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::{DiskUsage, Metrics};
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(60);

/// Measures every minute until `stop` is cancelled. An error is logged, and the last value stays.
pub(crate) async fn run(metrics: Arc<Metrics>, store: Store, stop: CancellationToken) {
    loop {
        match measure(&store).await {
            Ok(tables) => *metrics.storage.disk_usage() = Some(tables),
            Err(error) => tracing::debug!(%error, "cannot measure the size of the tables"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

async fn measure(store: &Store) -> Result<DiskUsage, StoreError> {
    let disk = store.select_disk_usage().await?;
    Ok(DiskUsage {
        events_bytes: disk.events,
        attempts_bytes: disk.attempts,
        database_bytes: disk.database,
        oldest: store.oldest().await?,
    })
}
