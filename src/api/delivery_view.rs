//! The state of deliveries, which is nowhere written down: it follows from the log, the attempts and the retries.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::store::deliveries::{Attempt, KnownAttempt};
use crate::values::event::Event;
use crate::values::id::SubscriptionId;
use crate::values::position::Position;
use crate::values::time::UnixMillis;

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
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
}

impl State {
    /// All of them, with their names.
    const ALL: [(&'static str, Self); 5] = [
        ("pending", Self::Pending),
        ("retrying", Self::Retrying),
        ("delivered", Self::Delivered),
        ("exhausted", Self::Exhausted),
        ("cancelled", Self::Cancelled),
    ];

    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<&'static [Self]> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name)?;
        Some(std::slice::from_ref(&found.1))
    }

    /// What the attempts say, given whether the subscription is deleted.
    fn of(attempts: &[KnownAttempt], deleted: bool) -> Self {
        let delivered = |known: &KnownAttempt| matches!(known.attempt.status, Some(200..=299));
        match attempts.last() {
            Some(_) if attempts.iter().any(delivered) => Self::Delivered,
            _ if deleted => Self::Cancelled,
            None => Self::Pending,
            Some(last) if last.next_attempt.is_some() => Self::Retrying,
            Some(_) => Self::Exhausted,
        }
    }
}

/// One (subscription, event) pair.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryView {
    subscription: String,
    event: String,
    event_type: String,
    pub(super) status: State,
    next_attempt_at: Option<UnixMillis>,
    attempts: Vec<Value>,
}

/// Attempts by the pair they belong to.
pub(super) type ByPair = HashMap<(SubscriptionId, Position), Vec<KnownAttempt>>;

/// Sorts attempts by their pairs.
pub(super) fn by_pair(attempts: Vec<KnownAttempt>) -> ByPair {
    let mut pairs = ByPair::new();
    for known in attempts {
        pairs.entry((known.attempt.subscription, known.attempt.position)).or_default().push(known);
    }
    pairs
}

impl DeliveryView {
    /// The delivery of `event` to a subscription, given all attempts at it in order.
    pub(super) fn of(
        id: SubscriptionId,
        event: &Event,
        attempts: &[KnownAttempt],
        deleted: bool,
    ) -> Self {
        let status = State::of(attempts, deleted);
        let next = attempts.last().and_then(|last| last.next_attempt);
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
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }
}

/// An attempt as clients see it.
pub(super) fn attempt(attempt: &Attempt) -> Value {
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
        "error": attempt.error.map(crate::values::outcome::ErrorClass::name),
        "error_detail": of_failure("error"),
        "response_body": of_failure("body"),
        "response_headers": {
            "content-type": of_failure("content_type"),
            "retry-after": of_failure("retry_after"),
        },
    })
}
