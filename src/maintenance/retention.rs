//! Retention: expires old events, and drops expired partitions once no cursor needs them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::expiry;
use crate::domain::retention::Retention;
use crate::domain::time::UnixMillis;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::partitions::RetentionLock;
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(3_600);
/// The wait after a run that failed.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Runs retention every hour until `stop` is cancelled. After a failed run, the next one follows after a minute.
pub(crate) async fn run(
    log: Log,
    store: Store,
    metrics: Arc<Metrics>,
    retention: Retention,
    stop: CancellationToken,
) {
    loop {
        let run = run_once(&log, &store, &metrics, retention);
        let Some(result) = stop.run_until_cancelled(run).await else { return };
        let pause = match result {
            Ok(()) => {
                metrics.storage.set_last_retention(UnixMillis::now());
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "retention failed; the next attempt is in a minute");
                RETRY_DELAY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Expires old events, moves the cursors past them, and drops the partitions that no cursor needs. Safe to interrupt
/// and to repeat.
///
/// Only the node that acquires the retention lock does this. A node without it only removes expired events from its
/// memory.
async fn run_once(
    log: &Log,
    store: &Store,
    metrics: &Metrics,
    retention: Retention,
) -> Result<(), StoreError> {
    let lock = store.try_lock_retention().await?;
    if lock.is_some() {
        advance_cursors(log, store, metrics, retention).await?;
    }
    log.drop_expired(store.select_expired_up_to().await?);
    match lock {
        Some(lock) => drop_partitions(store, retention, lock).await,
        None => Ok(()),
    }
}

/// Drops the partitions whose rows have all expired. If a partition cannot be dropped, later partitions of the same
/// table wait for the next run, and the error is returned.
async fn drop_partitions(
    store: &Store,
    retention: Retention,
    mut lock: RetentionLock,
) -> Result<(), StoreError> {
    let (mut in_use, mut result) = (Vec::new(), Ok(()));
    for partition in store.select_expired_partitions(retention).await? {
        if in_use.contains(&partition.parent) {
            continue;
        }
        match lock.drop_partition(&partition).await {
            Ok(()) => tracing::info!(partition = partition.name, "dropped an expired partition"),
            Err(error) => {
                in_use.push(partition.parent);
                result = Err(error);
            }
        }
    }
    result
}

/// Records the gaps of subscriptions that lose events to retention, then moves all cursors past the expired events.
async fn advance_cursors(
    log: &Log,
    store: &Store,
    metrics: &Metrics,
    retention: Retention,
) -> Result<(), StoreError> {
    let newest = store.select_newest_older_than(retention.events_days).await?;
    let Some(expired_up_to) = newest else { return Ok(()) };
    let expired = expiry::record_gaps(store, expired_up_to).await?;
    if expired > 0 {
        metrics.storage.expired.add(expired);
        log.notify_appended();
    }
    store.advance_cursors(expired_up_to).await
}
