//! Deliveries as clients see them. No table holds the state of a delivery: it follows from its attempts and retries.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};
use strum::EnumString;

use crate::domain::delivery::attempt::Attempt;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;
use crate::store::deliveries::{RecordedAttempt, UnrecordedDelivery};
use crate::store::{Store, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum DeliveryState {
    /// No attempt has ended yet.
    Pending,
    /// An attempt failed, and another follows.
    Retrying,
    /// The receiver responded to an attempt with a 2xx status.
    Delivered,
    /// Every attempt failed, and no other follows.
    Exhausted,
    /// The subscription is deleted, and no recorded attempt succeeded.
    Cancelled,
    /// The delivery has ended and its attempts have expired, so the hub cannot distinguish delivered from exhausted.
    Unknown,
}

impl DeliveryState {
    /// `attempts`: oldest first, may be empty. `unrecorded`: `Some` if the delivery was attempted, but its attempts
    /// have expired. `deleted`: whether the subscription is deleted.
    fn new(
        attempts: &[RecordedAttempt],
        unrecorded: Option<&UnrecordedDelivery>,
        deleted: bool,
    ) -> Self {
        let delivered = |known: &RecordedAttempt| matches!(known.attempt.status, Some(200..=299));
        match (attempts.last(), unrecorded) {
            (Some(_), _) if attempts.iter().any(delivered) => Self::Delivered,
            (None, Some(UnrecordedDelivery { next_attempt: None, .. })) => Self::Unknown,
            _ if deleted => Self::Cancelled,
            (None, None) => Self::Pending,
            (None, Some(_)) => Self::Retrying,
            (Some(last), _) if last.next_attempt.is_some() => Self::Retrying,
            (Some(_), _) => Self::Exhausted,
        }
    }
}

/// The recorded attempts of some deliveries, and the deliveries whose attempts have expired.
pub(crate) struct History {
    attempts: HashMap<(SubscriptionId, Position), Vec<RecordedAttempt>>,
    unrecorded: HashMap<(SubscriptionId, Position), UnrecordedDelivery>,
}

impl History {
    /// Reads the history of the deliveries of the events at `positions` to these subscriptions.
    pub(crate) async fn read(
        store: &Store,
        subscriptions: &[i64],
        positions: &[i64],
    ) -> Result<Self, StoreError> {
        let mut attempts: HashMap<_, Vec<_>> = HashMap::new();
        for known in store.select_attempts_of(subscriptions, positions).await? {
            let pair = (known.attempt.subscription, known.attempt.position);
            attempts.entry(pair).or_default().push(known);
        }
        let unrecorded = store.select_unrecorded(subscriptions, positions).await?;
        let unrecorded = unrecorded.into_iter().map(|one| ((one.subscription, one.position), one));
        Ok(Self { attempts, unrecorded: unrecorded.collect() })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct DeliveryView {
    subscription: String,
    event: String,
    event_type: String,
    pub(super) status: DeliveryState,
    next_attempt_at: Option<UnixMillis>,
    attempts: Vec<Value>,
}

impl DeliveryView {
    /// `deleted`: whether the subscription is deleted.
    pub(crate) fn new(id: SubscriptionId, event: &Event, history: &History, deleted: bool) -> Self {
        let pair = (id, event.position);
        let attempts = history.attempts.get(&pair).map_or(&[][..], Vec::as_slice);
        let unrecorded = history.unrecorded.get(&pair);
        let status = DeliveryState::new(attempts, unrecorded, deleted);
        let next = match attempts.last() {
            Some(last) => last.next_attempt,
            None => unrecorded.and_then(|one| one.next_attempt),
        };
        Self {
            subscription: id.to_string(),
            event: event.position.to_string(),
            event_type: event.event_type.to_string(),
            status,
            next_attempt_at: next.filter(|_| status == DeliveryState::Retrying),
            attempts: attempts.iter().map(|known| attempt_view(&known.attempt)).collect(),
        }
    }

    pub(super) fn attempt_count(&self) -> usize {
        self.attempts.len()
    }
}

/// The JSON of an attempt, with the stored part of a failure's response.
pub(super) fn attempt_view(attempt: &Attempt) -> Value {
    let response =
        attempt.response.as_deref().and_then(|json| serde_json::from_str::<Value>(json).ok());
    let excerpt = |name: &str| response.as_ref().and_then(|response| response.get(name)).cloned();
    json!({
        "id": attempt.id.to_string(),
        "subscription": attempt.subscription.to_string(),
        "event": attempt.position.to_string(),
        "number": attempt.number,
        "attempted_at": attempt.id.time(),
        "latency_ms": attempt.latency_ms,
        "status_code": attempt.status,
        "error": attempt.error.map(crate::domain::delivery::outcome::ErrorClass::name),
        "error_detail": excerpt("error"),
        "response_body": excerpt("body"),
        "response_headers": {
            "content-type": excerpt("content_type"),
            "retry-after": excerpt("retry_after"),
        },
    })
}
