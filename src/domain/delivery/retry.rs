//! A delivery that waits for its next attempt, and the request for one more attempt.

use serde::{Deserialize, Serialize};

use crate::domain::event::event_type::EventType;
use crate::domain::position::Position;
use crate::domain::serde_text;
use crate::domain::subscription::command;
use crate::domain::time::UnixMillis;

/// The recorded state of a delivery that waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts made so far.
    pub attempts: u16,
    /// The time of the next attempt.
    pub due: UnixMillis,
    pub first_attempt: UnixMillis,
    /// The order key of the event. Events of the same key wait until this delivery has ended.
    pub order_key: Option<i64>,
}

/// The data of a log entry that requests one more attempt of a delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetryRequest {
    pub subscription: String,
    #[serde(with = "serde_text")]
    pub event: Position,
    /// Attempts made before the request.
    pub attempts: u16,
}

impl RetryRequest {
    pub fn entry_type() -> EventType {
        EventType::operational(command::RETRY)
    }
}
