//! One attempt at a delivery.

use std::time::Duration;

use super::outcome::ErrorClass;
use crate::domain::id::{AttemptId, SubscriptionId};
use crate::domain::position::Position;

/// One request to a receiver and its result.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The time in the id is the start of the attempt.
    pub id: AttemptId,
    pub subscription: SubscriptionId,
    pub position: Position,
    /// The attempt's number within its delivery, from 1.
    pub number: u16,
    /// From the start until the whole response was read or the attempt failed.
    pub latency_ms: u32,
    pub status: Option<u16>,
    /// Why there was no complete response; then `status` is `None`.
    pub error: Option<ErrorClass>,
    /// For failures, JSON: an excerpt of the response's body and its relevant headers, or the error's text.
    pub response: Option<String>,
}

impl Attempt {
    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.into())
    }
}
