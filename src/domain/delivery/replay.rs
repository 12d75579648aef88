//! Replays: a stretch of the log that is delivered once more.

use crate::domain::position::Position;
use crate::domain::subscription::command::{Only, ReplayRequest};

/// Whether a replay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    /// It does.
    Running,
    /// All of it has been handed to delivery.
    Completed,
    /// It was ended before that.
    Cancelled,
}

impl ReplayState {
    const ALL: [Self; 3] = [Self::Running, Self::Completed, Self::Cancelled];

    /// The name in JSON and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A replay as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Everything replayed is above this place.
    pub after: Position,
    /// And at or below this.
    pub until: Position,
    /// Which of it.
    pub only: Only,
    /// How many deliveries that was when it was asked for.
    pub count: u64,
    /// All up to here has been handed to delivery.
    pub position: Position,
    /// So many deliveries.
    pub replayed: u64,
    /// Whether it goes on.
    pub state: ReplayState,
}

impl Progress {
    /// One that has not begun.
    pub fn new(asked: &ReplayRequest) -> Self {
        let ReplayRequest { after, until, only, count, .. } = *asked;
        let state = ReplayState::Running;
        Self { after, until, only, count, position: after, replayed: 0, state }
    }
}

/// What is on record of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// Its event.
    pub position: Position,
    /// How many attempts were made.
    pub attempts: u16,
    /// Whether one of them was answered with 2xx.
    pub is_delivered: bool,
    /// Whether there will be another.
    pub is_waiting: bool,
}
