//! What a `hookhub.delivery.retry_requested` entry says.

use serde::{Deserialize, Serialize};

/// The data of the log entry that asks for one more attempt of a delivery.
#[derive(Debug, Serialize, Deserialize)]
pub struct RetryRequest {
    /// The subscription's id.
    pub subscription: String,
    /// The event's id.
    pub event: String,
    /// Attempts made before.
    pub attempts: u16,
}
