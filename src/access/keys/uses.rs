//! Writes the last use of each key to the database, in the background so that no request waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cache::KeyCache;
use super::key::Key;
use crate::domain::id::KeyId;
use crate::domain::time::UnixMillis;
use crate::store::Store;

const WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// Writes the last uses of cached keys to the database as they are due; after `stop`, all that remain.
pub(crate) async fn write(store: Store, cache: Arc<KeyCache>, stop: CancellationToken) {
    loop {
        let is_running =
            stop.run_until_cancelled(tokio::time::sleep(WRITE_INTERVAL)).await.is_some();
        let now = UnixMillis::now();
        let mut used = cache.all();
        used.retain(|(_, key)| key.is_write_due(now) || !is_running);
        write_uses(&store, &used).await;
        if !is_running {
            return;
        }
    }
}

/// Writes the last uses in one statement. If that fails, they stay in memory for a later call.
async fn write_uses(store: &Store, used: &[(KeyId, Arc<Key>)]) {
    let mut unwritten = Vec::new();
    for (id, key) in used {
        if let Some(last) = key.unwritten_use() {
            unwritten.push((id.stored(), last, key));
        }
    }
    if unwritten.is_empty() {
        return;
    }
    let (ids, times): (Vec<i64>, Vec<i64>) =
        unwritten.iter().map(|(id, last, _)| (*id, last.as_i64())).unzip();
    match store.update_last_uses(&ids, &times).await {
        Ok(()) => unwritten.iter().for_each(|(_, last, key)| key.record_written(*last)),
        Err(error) => {
            tracing::debug!(%error, "cannot write the last uses of keys; they are written later");
        }
    }
}
