//! How much room the tables take and how far back they reach, looked at now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::{Measures, Tables};
use crate::store::{Store, StoreError};

const EVERY: Duration = Duration::from_secs(60);

/// Keeps looking until `stop`.
pub(crate) async fn run(metrics: Arc<Measures>, store: Store, stop: CancellationToken) {
    loop {
        match look(&store).await {
            Ok(tables) => *metrics.keeping.tables() = Some(tables),
            Err(error) => tracing::debug!(%error, "cannot look at how much the tables take"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

async fn look(store: &Store) -> Result<Tables, StoreError> {
    let disk = store.select_disk_usage().await?;
    Ok(Tables {
        events_bytes: disk.events,
        attempts_bytes: disk.attempts,
        database_bytes: disk.database,
        oldest: store.oldest().await?,
    })
}
