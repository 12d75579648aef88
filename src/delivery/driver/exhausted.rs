//! Deliveries that were given up: told in the log, for whoever subscribes to that.

use crate::domain::delivery::exhausted::Exhausted;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::event::NewEvent;
use crate::domain::event::event_type::EventType;
use crate::log::Log;
use crate::store::log::AppendRequest;

/// Appends `hookhub.delivery.exhausted`, however long the database stays away.
pub(crate) async fn tell(log: Log, exhausted: Exhausted) {
    let Exhausted { subscription, position, attempts, .. } = &exhausted;
    tracing::warn!(subscription = %subscription.id, event = %position, attempts, "a delivery is given up");
    let said = serde_json::json!({
        "subscription": subscription.id.to_string(), "event": position.to_string(), "attempts": attempts,
    });
    let event = NewEvent {
        event_type: EventType::operational("delivery.exhausted"),
        about: Some(subscription.id),
        occurred_at: None,
        data: Bytes::from(said.to_string()),
    };
    for wait in reconnect_waits() {
        let (tenant, events) = (Arc::clone(&subscription.tenant), vec![event.clone()]);
        match log.append(AppendRequest { tenant, key: None, events }).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot tell that a delivery is given up; trying again");
            }
        }
        tokio::time::sleep(wait).await;
    }
}
