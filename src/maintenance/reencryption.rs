//! Keeps stored secrets encrypted with the current master key, and removes expired signing secrets.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::time::UnixMillis;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(60);
/// How many values are re-encrypted in one commit.
const BATCH_SIZE: i64 = 200;
/// How many subscriptions one run removes expired secrets from.
const MAX_EXPIRED_SECRETS: i64 = 1_000;

/// Runs re-encryption every minute until `stop` is cancelled.
pub(crate) async fn run(metrics: Arc<Metrics>, store: Store, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(run_once(&metrics, &store)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot re-encrypt secrets; the next attempt is in a minute");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Removes expired signing secrets, counts the values that need re-encryption, and re-encrypts them. Only counts them
/// while another node re-encrypts, or if this node's current master key is not the database's.
///
/// Safe to interrupt and to repeat: a value that changed after it was read is not overwritten.
async fn run_once(metrics: &Metrics, store: &Store) -> Result<(), StoreError> {
    remove_expired_secrets(store).await?;
    let left = store.count_encrypted_with_old_key().await?;
    *metrics.storage.encrypted_with_old_key() = Some(left);
    if left > 0
        && let Some(_lock) = store.try_lock_reencryption().await?
    {
        reencrypt(metrics, store, left).await?;
    }
    Ok(())
}

/// Re-encrypts with the current master key, in batches, all values that are plain text or use a former master key. If
/// none is left then, deletes the former master keys.
///
/// `left` is the number of these values; the metric shows it as it falls. A value that cannot be decrypted is logged
/// and skipped.
async fn reencrypt(metrics: &Metrics, store: &Store, mut left: i64) -> Result<(), StoreError> {
    tracing::info!(left, "re-encrypting with the current master key");
    let mut unreadable = 0;
    loop {
        let values = store.select_encrypted_with_old_key(unreadable, BATCH_SIZE).await?;
        if values.is_empty() {
            break;
        }
        let batch = store.reencrypt(&values).await?;
        if let Some(error) = batch.error {
            tracing::error!(count = batch.unreadable, error, "some values cannot be re-encrypted");
        }
        if batch.reencrypted + batch.unreadable == 0 {
            // All of them were changed meanwhile; the next run finds what is left.
            break;
        }
        unreadable += batch.unreadable;
        left = left.saturating_sub(batch.reencrypted).max(unreadable);
        *metrics.storage.encrypted_with_old_key() = Some(left);
        tracing::info!(left, "re-encrypted a batch");
    }
    left = store.count_encrypted_with_old_key().await?;
    *metrics.storage.encrypted_with_old_key() = Some(left);
    if left == 0 {
        store.delete_old_master_keys().await?;
        tracing::info!(
            "every secret is encrypted with the current master key; former master keys are no longer needed"
        );
    }
    Ok(())
}

/// Removes expired signing secrets from up to [`MAX_EXPIRED_SECRETS`] subscriptions. If a subscription changes at the
/// same time, the next run handles it.
async fn remove_expired_secrets(store: &Store) -> Result<(), StoreError> {
    let now = UnixMillis::now();
    for (id, definition) in store.select_expired_secrets(now, MAX_EXPIRED_SECRETS).await? {
        let removed = match &definition {
            Some(definition) => store.remove_expired_secrets(definition, now).await,
            None => Ok(true),
        };
        match removed {
            Ok(true) => store.delete_secret_ends(id, now).await?,
            Ok(false) => {}
            Err(StoreError::Unreadable(error)) => {
                tracing::error!(error, "cannot remove expired signing secrets");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
