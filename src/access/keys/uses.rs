//! When keys were used last, written now and then, never while a request waits.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cache::Known;
use super::key::Key;
use crate::domain::id::KeyId;
use crate::domain::time::UnixMillis;
use crate::store::Store;

/// How often it is looked which uses are to be written.
const EVERY: Duration = Duration::from_secs(5);

/// Writes what is due until `stop`, and then all that is left.
pub(crate) async fn write(store: Store, known: Arc<Known>, stop: CancellationToken) {
    loop {
        let goes_on = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some();
        let now = UnixMillis::now();
        let mut used = known.all();
        used.retain(|(_, key)| key.is_due(now) || !goes_on);
        put_down(&store, &used).await;
        if !goes_on {
            return;
        }
    }
}

async fn put_down(store: &Store, used: &[(KeyId, Arc<Key>)]) {
    let mut unwritten = Vec::new();
    for (id, key) in used {
        if let Some(last) = key.unwritten() {
            unwritten.push((id.stored(), last, key));
        }
    }
    if unwritten.is_empty() {
        return;
    }
    let (ids, times): (Vec<i64>, Vec<i64>) =
        unwritten.iter().map(|(id, last, _)| (*id, last.as_i64())).unzip();
    match store.update_last_uses(&ids, &times).await {
        Ok(()) => unwritten.iter().for_each(|(_, last, key)| key.note_written(*last)),
        Err(error) => tracing::debug!(%error, "when keys were used last is written later"),
    }
}
