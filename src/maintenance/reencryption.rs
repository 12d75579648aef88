//! Keeping secrets only as they should be kept: all sealed with the current master key, and none whose time is over.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::time::UnixMillis;
use crate::metrics::Measures;
use crate::store::{Store, StoreError};

const EVERY: Duration = Duration::from_secs(60);
/// How many things are sealed anew in one commit.
const BATCH: i64 = 200;
/// How many subscriptions are rid of ended secrets in one round.
const MOST_ENDED: i64 = 1_000;

/// Looks now and then until `stop`.
pub(crate) async fn run(metrics: Arc<Measures>, store: Store, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(step(&metrics, &store)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "secrets could not be sealed anew; it is tried again in a minute");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// One round. It may be cut short anywhere and done again, and several nodes may be at it: what was changed since it was
/// read is left as it is.
async fn step(metrics: &Measures, store: &Store) -> Result<(), StoreError> {
    drop_ended(store).await?;
    let left = store.count_encrypted_with_old_key().await?;
    metrics.keeping.set_sealed_otherwise(left);
    if left > 0
        && let Some(_turn) = store.try_lock_reencryption().await?
    {
        reseal(metrics, store, left).await?;
    }
    Ok(())
}

/// Seals everything with the current master key, be it sealed with a former one or not at all.
async fn reseal(metrics: &Measures, store: &Store, mut left: i64) -> Result<(), StoreError> {
    tracing::info!(left, "sealing anew what the current master key has not sealed");
    let mut unreadable = 0;
    loop {
        let read = store.select_encrypted_with_old_key(unreadable, BATCH).await?;
        if read.is_empty() {
            break;
        }
        let done = store.reencrypt(&read).await?;
        if let Some(why) = done.why {
            tracing::error!(count = done.unreadable, why, "something cannot be sealed anew");
        }
        if done.resealed + done.unreadable == 0 {
            // All were changed meanwhile; the next round finds what is still to be done.
            break;
        }
        unreadable += done.unreadable;
        left = left.saturating_sub(done.resealed).max(unreadable);
        metrics.keeping.set_sealed_otherwise(left);
        tracing::info!(left, "sealed anew");
    }
    left = store.count_encrypted_with_old_key().await?;
    metrics.keeping.set_sealed_otherwise(left);
    if left == 0 {
        store.delete_old_master_keys().await?;
        tracing::info!(
            "everything is sealed with the current master key; no node needs former ones for what is stored"
        );
    }
    Ok(())
}

/// Drops signing secrets that were rotated away and sign nothing any more.
async fn drop_ended(store: &Store) -> Result<(), StoreError> {
    let now = UnixMillis::now();
    for (id, definition) in store.select_ended_secrets(now, MOST_ENDED).await? {
        let dropped = match &definition {
            Some(definition) => store.remove_ended_secrets(definition, now).await,
            None => Ok(true),
        };
        match dropped {
            Ok(true) => store.delete_secret_ends(id, now).await?,
            // It was changed just now; the next round finds it.
            Ok(false) => {}
            Err(StoreError::Unreadable(why)) => {
                tracing::error!(why, "ended secrets cannot be dropped");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
