//! Nodes wake each other when they append: coalesced, and only while there are others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tail::Tail;
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::store::{Store, StoreError};

/// However often this node appends, it rings no more often than this.
const BETWEEN_RINGS: Duration = Duration::from_millis(5);
/// How long it is believed whether there are other nodes.
const BELIEVED: Duration = Duration::from_secs(1);

/// Rings for `node` whenever it is told of an append, until `stop`.
pub(super) async fn ring(node: Uuid, store: Store, news: Arc<Notify>, stop: CancellationToken) {
    let (mut others, mut looked) = (true, None::<Instant>);
    loop {
        tokio::select! {
            () = news.notified() => {}
            () = stop.cancelled() => return,
        }
        if looked.is_none_or(|looked| looked.elapsed() > BELIEVED) {
            // In doubt there are some.
            others = store.has_other_nodes(node).await.unwrap_or(true);
            looked = Some(Instant::now());
        }
        if others && let Err(error) = store.ring(node).await {
            tracing::debug!(%error, "other nodes are not told of an append; they look each second");
        }
        sleep(BETWEEN_RINGS).await;
    }
}

/// Has the tail read on when another node rings, until `stop`.
pub(super) async fn answer(node: Uuid, store: Store, tail: Arc<Tail>, stop: CancellationToken) {
    let mut waits = reconnect_waits();
    while !stop.is_cancelled() {
        let heard = listen(node, &store, &tail, &stop).await;
        let Err(error) = heard else { return };
        tracing::debug!(%error, "other nodes are not heard");
        let wait = waits.next().unwrap_or(BELIEVED);
        // Stopped or not, the condition above sees it.
        drop(timeout(wait, stop.cancelled()).await);
    }
}

async fn listen(
    node: Uuid,
    store: &Store,
    tail: &Tail,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut ear = store.listen(node).await?;
    loop {
        // What was appended before this listened, or while it heard nothing, is read too.
        tail.read_on();
        tokio::select! {
            heard = ear.heard() => heard?,
            () = stop.cancelled() => return Ok(()),
        }
    }
}
