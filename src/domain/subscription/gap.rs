//! The data of a `hookhub.gap` entry: events that retention deleted before a subscription got them.

use serde::{Deserialize, Serialize};

use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::serde_text;

/// The type of the log entry, and of the message to a stream whose resume point is deleted.
pub const GAP: &str = "hookhub.gap";

/// Events that a subscription missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gap {
    reason: String,
    pub subscription: String,
    /// How many events are missing.
    pub events: u64,
    /// The first missing event.
    pub from: String,
    /// The last missing event.
    #[serde(with = "serde_text")]
    pub to: Position,
}

impl Gap {
    /// The subscription misses `events` events from `first` to `last`, both included.
    pub fn new(id: SubscriptionId, events: u64, first: Position, last: Position) -> Self {
        Self {
            reason: "expired".to_owned(),
            subscription: id.to_string(),
            events,
            from: first.to_string(),
            to: last,
        }
    }
}
