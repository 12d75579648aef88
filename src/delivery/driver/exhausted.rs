//! Publishes `hookhub.delivery.exhausted` when a delivery gets no more attempts.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::event::NewEvent;
use crate::domain::event::event_type::EventType;
use crate::log::Log;
use crate::store::log::AppendRequest;

/// Appends the event `hookhub.delivery.exhausted` to the log. Retries until the database accepts it.
pub(super) async fn publish_exhausted(log: Log, exhausted: Exhausted) {
    let Exhausted { subscription, position, attempts, .. } = &exhausted;
    tracing::warn!(subscription = %subscription.id, event = %position, attempts, "delivery exhausted its retries");
    let data = serde_json::json!({
        "subscription": subscription.id.to_string(), "event": position.to_string(), "attempts": attempts,
    });
    let event = NewEvent {
        event_type: EventType::operational("delivery.exhausted"),
        about: Some(subscription.id),
        occurred_at: None,
        data: Bytes::from(data.to_string()),
    };
    for wait in reconnect_delays() {
        let (tenant, events) = (Arc::clone(&subscription.tenant), vec![event.clone()]);
        match log.append(AppendRequest { tenant, key: None, events }).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot publish hookhub.delivery.exhausted; retrying");
            }
        }
        tokio::time::sleep(wait).await;
    }
}
