//! The state of deliveries, which is nowhere written down: it follows from the log, the attempts and the retries.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::delivery::attempt::Attempt;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;
use crate::store::deliveries::{RecordedAttempt, UnrecordedDelivery};
use crate::store::{Store, StoreError};

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Its first attempt is still ahead.
    Pending,
    /// It failed and is tried again.
    Retrying,
    /// A 2xx answer came in time.
    Delivered,
    /// It failed and is not tried again.
    Exhausted,
    /// The subscription was deleted before it was delivered.
    Cancelled,
    /// It was delivered or given up; the attempts that say which are no longer kept.
    Unknown,
}

impl State {
    /// All of them, with their names.
    const ALL: [(&'static str, Self); 6] = [
        ("pending", Self::Pending),
        ("retrying", Self::Retrying),
        ("delivered", Self::Delivered),
        ("exhausted", Self::Exhausted),
        ("cancelled", Self::Cancelled),
        ("unknown", Self::Unknown),
    ];

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<&'static [Self]> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name)?;
        Some(std::slice::from_ref(&found.1))
    }

    /// What the attempts say, given what they are not kept of and whether the subscription is deleted.
    fn of(
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

/// What is on record of some deliveries.
pub(crate) struct Record {
    attempts: HashMap<(SubscriptionId, Position), Vec<RecordedAttempt>>,
    unrecorded: HashMap<(SubscriptionId, Position), UnrecordedDelivery>,
}

impl Record {
    /// Of these subscriptions' deliveries of these events.
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

/// One (subscription, event) pair.
#[derive(Debug, Serialize)]
pub(crate) struct DeliveryView {
    subscription: String,
    event: String,
    event_type: String,
    pub(crate) status: State,
    next_attempt_at: Option<UnixMillis>,
    attempts: Vec<Value>,
}

impl DeliveryView {
    /// The delivery of `event` to a subscription, given what is on record of it.
    pub(crate) fn of(id: SubscriptionId, event: &Event, record: &Record, deleted: bool) -> Self {
        let pair = (id, event.position);
        let attempts = record.attempts.get(&pair).map_or(&[][..], Vec::as_slice);
        let unrecorded = record.unrecorded.get(&pair);
        let status = State::of(attempts, unrecorded, deleted);
        let next = match attempts.last() {
            Some(last) => last.next_attempt,
            None => unrecorded.and_then(|one| one.next_attempt),
        };
        Self {
            subscription: id.to_string(),
            event: event.position.to_string(),
            event_type: event.event_type.to_string(),
            status,
            next_attempt_at: next.filter(|_| status == State::Retrying),
            attempts: attempts.iter().map(|known| attempt(&known.attempt)).collect(),
        }
    }

    /// How many attempts were made.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }
}

/// An attempt as clients see it.
pub(crate) fn attempt(attempt: &Attempt) -> Value {
    let response =
        attempt.response.as_deref().and_then(|json| serde_json::from_str::<Value>(json).ok());
    let of_failure =
        |name: &str| response.as_ref().and_then(|response| response.get(name)).cloned();
    json!({
        "id": attempt.id.to_string(),
        "subscription": attempt.subscription.to_string(),
        "event": attempt.position.to_string(),
        "number": attempt.number,
        "attempted_at": attempt.id.time(),
        "latency_ms": attempt.latency_ms,
        "status_code": attempt.status,
        "error": attempt.error.map(crate::domain::delivery::outcome::ErrorClass::name),
        "error_detail": of_failure("error"),
        "response_body": of_failure("body"),
        "response_headers": {
            "content-type": of_failure("content_type"),
            "retry-after": of_failure("retry_after"),
        },
    })
}
