//! One attempt at a delivery, as it is recorded.

use super::outcome::ErrorClass;
use crate::domain::id::{AttemptId, SubscriptionId};
use crate::domain::position::Position;
use std::time::Duration;

/// One POST and what came of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its id, which carries when it began.
    pub id: AttemptId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// Which event.
    pub position: Position,
    /// Which attempt of this delivery, from 1.
    pub number: u16,
    /// From the start until the answer was read or the failure known.
    pub latency_ms: u32,
    /// HTTP status code, where there was an answer.
    pub status: Option<u16>,
    /// Where there was none, why.
    pub error: Option<ErrorClass>,
    /// For failures: JSON of the answer's body (an excerpt) and headers of use.
    pub response: Option<String>,
}

impl Attempt {
    /// How long it took.
    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.into())
    }
}
