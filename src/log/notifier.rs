//! The notifier: nodes wake each other after an append. A notification is a hint; reading the log is the truth.
//!
//! Notifications are coalesced, and sent only while other nodes are alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tail::Tail;
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::store::{Store, StoreError};

/// The minimum time between two notifications, however often this node appends.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);
/// How long the answer to "are there other nodes?" is reused.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Notifies the other nodes when `wakeup` is signalled, which this node does after each append. Ends at `stop`.
pub(super) async fn notify(node: Uuid, store: Store, wakeup: Arc<Notify>, stop: CancellationToken) {
    let (mut has_others, mut checked_at) = (true, None::<Instant>);
    loop {
        tokio::select! {
            () = wakeup.notified() => {}
            () = stop.cancelled() => return,
        }
        if checked_at.is_none_or(|checked_at| checked_at.elapsed() > TRUSTED_FOR) {
            // When the check fails, assume that there are others.
            has_others = store.has_other_nodes(node).await.unwrap_or(true);
            checked_at = Some(Instant::now());
        }
        if has_others && let Err(error) = store.notify(node).await {
            tracing::debug!(%error, "cannot notify other nodes of an append; they poll every second");
        }
        sleep(NOTIFY_INTERVAL).await;
    }
}

/// Makes the tail read the table whenever another node notifies this one, until `stop`. Reconnects after an error.
pub(super) async fn listen(node: Uuid, store: Store, tail: Arc<Tail>, stop: CancellationToken) {
    let mut waits = reconnect_delays();
    while !stop.is_cancelled() {
        let ended = follow_notifications(node, &store, &tail, &stop).await;
        let Err(error) = ended else { return };
        tracing::debug!(%error, "cannot listen for notifications; the log is polled every second");
        let wait = waits.next().unwrap_or(TRUSTED_FOR);
        // The loop's condition notices a stop.
        drop(timeout(wait, stop.cancelled()).await);
    }
}

/// Requests a read of the table after each notification. Returns after `stop`, or with the error that broke the
/// connection.
async fn follow_notifications(
    node: Uuid,
    store: &Store,
    tail: &Tail,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut listener = store.listen(node).await?;
    loop {
        // Before the first wait too, for what other nodes appended before this one listened.
        tail.request_read();
        tokio::select! {
            notified = listener.notified() => notified?,
            () = stop.cancelled() => return Ok(()),
        }
    }
}
