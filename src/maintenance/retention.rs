//! Retention: what is old enough goes, a day at a time, once no cursor is below it any more.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::expiry;
use crate::domain::retention::Retention;
use crate::domain::time::UnixMillis;
use crate::log::Log;
use crate::metrics::Measures;
use crate::store::partitions::RetentionTurn;
use crate::store::{Store, StoreError};

const EVERY: Duration = Duration::from_secs(3_600);
/// After a round that could not do all it was to do.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Keeps the log to its length until `stop`.
pub(crate) async fn run(
    log: Log,
    store: Store,
    metrics: Arc<Measures>,
    kept: Retention,
    stop: CancellationToken,
) {
    loop {
        let Some(round) = stop.run_until_cancelled(step(&log, &store, &metrics, kept)).await else {
            return;
        };
        let pause = match round {
            Ok(()) => {
                metrics.keeping.set_round(UnixMillis::now());
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "retention was cut short; it is tried again in a minute");
                AGAIN_AFTER
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// One round: moves whoever is behind, then drops what nobody needs. What another node is at is left to it; every part
/// may be cut short and done again.
async fn step(
    log: &Log,
    store: &Store,
    metrics: &Measures,
    kept: Retention,
) -> Result<(), StoreError> {
    let turn = store.try_lock_retention().await?;
    if turn.is_some() {
        move_on(log, store, metrics, kept).await?;
    }
    log.drop_expired(store.select_expired_up_to().await?);
    match turn {
        Some(turn) => drop_old(store, kept, turn).await,
        None => Ok(()),
    }
}

/// Drops partitions by age. One that is in use is left, with those of the same table, for a later round.
async fn drop_old(
    store: &Store,
    kept: Retention,
    mut turn: RetentionTurn,
) -> Result<(), StoreError> {
    let (mut in_use, mut result) = (Vec::new(), Ok(()));
    for old in store.select_old_partitions(kept).await? {
        if in_use.contains(&old.parent) {
            continue;
        }
        match turn.drop_partition(&old).await {
            Ok(()) => tracing::info!(partition = old.name, "dropped by age"),
            Err(error) => {
                in_use.push(old.parent);
                result = Err(error);
            }
        }
    }
    result
}

/// Tells those who have not dealt with what is too old, and moves all cursors past it.
async fn move_on(
    log: &Log,
    store: &Store,
    metrics: &Measures,
    kept: Retention,
) -> Result<(), StoreError> {
    let Some(gone) = store.select_newest_older_than(kept.events_days).await? else { return Ok(()) };
    let expired = expiry::tell(store, gone).await?;
    if expired > 0 {
        metrics.keeping.expired.add(expired);
        log.notify_appended();
    }
    store.advance_cursors(gone).await
}
