//! One attempt at a delivery.

use std::time::Duration;

use super::outcome::ErrorClass;
use crate::domain::id::{AttemptId, SubscriptionId};
use crate::domain::position::Position;

/// One request to a receiver and its result.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Contains the start of the attempt.
    pub id: AttemptId,
    pub subscription: SubscriptionId,
    pub position: Position,
    /// The attempt's number within its delivery, from 1.
    pub number: u16,
    /// From the start until the response was read or the attempt failed.
    pub latency_ms: u32,
    pub status: Option<u16>,
    /// Why there was no response.
    pub error: Option<ErrorClass>,
    /// For failures: JSON with an excerpt of the response's body and its relevant headers.
    pub response: Option<String>,
}

impl Attempt {
    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.into())
    }
}
