//! The data of a `hookhub.gap` entry: events that retention deleted before a subscription got them.

use serde::{Deserialize, Serialize};

use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::serde_text;

/// The type of the log entry, and of the message to a stream that cannot continue after its last id.
pub const GAP: &str = "hookhub.gap";

/// Events that a subscription missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gap {
    reason: String,
    pub subscription: String,
    /// The number of missing events.
    pub events: u64,
    /// The missing events are from here to `to`, both included. Between them may be events that the subscription got.
    pub from: String,
    #[serde(with = "serde_text")]
    pub to: Position,
}

impl Gap {
    /// The subscription misses `events` of its events in the range from `first` to `last`, both included.
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
