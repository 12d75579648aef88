//! Replays: a range of the log that is delivered to a subscription once more.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::domain::event::event_type::EventType;
use crate::domain::id::ReplayId;
use crate::domain::position::Position;
use crate::domain::serde_text;
use crate::domain::subscription::command;

/// The deliveries that a replay repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ReplayFilter {
    /// Those with recorded attempts of which none succeeded.
    Undelivered,
    All,
}

impl ReplayFilter {
    /// Returns the name of the filter in JSON and SQL.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the filter selects a delivery. `delivered`: whether an attempt succeeded; `None`: no attempt is
    /// recorded.
    pub fn includes(self, delivered: Option<bool>) -> bool {
        match self {
            Self::Undelivered => delivered == Some(false),
            Self::All => true,
        }
    }
}

/// The data of a log entry that requests a replay. The entry's position is the replay's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    pub subscription: String,
    /// The exclusive lower bound of the range.
    #[serde(with = "serde_text")]
    pub after: Position,
    /// The inclusive upper bound.
    #[serde(with = "serde_text")]
    pub until: Position,
    pub only: ReplayFilter,
    /// The number of deliveries at the time of the request.
    pub count: u64,
}

impl ReplayRequest {
    pub fn entry_type() -> EventType {
        EventType::operational(command::REPLAY)
    }
}

/// The data of a log entry that ends a replay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayCancellation {
    #[serde(with = "serde_text")]
    pub replay: ReplayId,
}

impl ReplayCancellation {
    pub fn entry_type() -> EventType {
        EventType::operational(command::CANCEL_REPLAY)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReplayState {
    Running,
    /// All deliveries were handed to the engine. Their attempts may still run.
    Completed,
    Cancelled,
}

impl ReplayState {
    /// Returns the name of the state in JSON and SQL.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A replay and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayProgress {
    /// The exclusive lower bound of the range.
    pub after: Position,
    /// The inclusive upper bound.
    pub until: Position,
    pub only: ReplayFilter,
    /// The number of deliveries at the time of the request.
    pub count: u64,
    /// Every event up to here was handed to the engine, or is not repeated.
    pub position: Position,
    /// The number of deliveries handed to the engine.
    pub replayed: u64,
    pub state: ReplayState,
}

impl ReplayProgress {
    pub fn new(request: &ReplayRequest) -> Self {
        let ReplayRequest { after, until, only, count, .. } = *request;
        let state = ReplayState::Running;
        Self { after, until, only, count, position: after, replayed: 0, state }
    }
}

/// The recorded state of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct RecordedDelivery {
    pub position: Position,
    /// Attempts made so far.
    pub attempts: u16,
    pub is_delivered: bool,
    pub is_waiting: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_filter_and_state_is_found_by_its_name() {
        for name in ["undelivered", "all"] {
            assert_eq!(name.parse().map(ReplayFilter::name), Ok(name));
        }
        for name in ["running", "completed", "cancelled"] {
            assert_eq!(name.parse().map(ReplayState::name), Ok(name));
        }
    }
}
