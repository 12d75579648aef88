//! What a `hookhub.gap` entry says to a subscription that was too slow for retention.

use serde::{Deserialize, Serialize};

use crate::domain::as_text;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

/// The type of the entry, and of what a stream is told when its resume point is gone.
pub const GAP: &str = "hookhub.gap";

/// The data of the log entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expiry {
    reason: String,
    /// The subscription's id.
    pub subscription: String,
    /// How many of its events went before it had them.
    pub events: u64,
    /// The first of them.
    pub from: String,
    /// The last of them.
    #[serde(with = "as_text")]
    pub to: Position,
}

impl Expiry {
    /// So many events of a subscription are gone, from the first to the last of them.
    pub fn new(id: SubscriptionId, events: u64, (from, to): (Position, Position)) -> Self {
        Self {
            reason: "expired".to_owned(),
            subscription: id.to_string(),
            events,
            from: from.to_string(),
            to,
        }
    }
}
