//! What the engine asks for, and what comes back.

use std::sync::Arc;

use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::outcome::Outcome;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;

/// A POST to make.
#[derive(Debug)]
pub(crate) struct StartAttempt {
    /// To whom.
    pub(crate) subscription: Arc<Subscription>,
    /// What.
    pub(crate) event: Arc<Event>,
    /// Which attempt, from 1.
    pub(crate) number: u16,
    /// The term in which its shard is owned.
    pub(crate) term: i64,
}

/// An event to fetch, for an attempt at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchEvent {
    /// To whom.
    pub(crate) id: SubscriptionId,
    /// Where it is.
    pub(crate) position: Position,
    /// The term in which the subscription's shard is owned.
    pub(crate) term: i64,
}

/// An attempt that was made.
#[derive(Debug)]
pub(crate) struct AttemptResult {
    /// To be recorded.
    pub(crate) attempt: Attempt,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// The term in which it began.
    pub(crate) term: i64,
}

/// A stretch of the log to read for a subscription that is behind.
#[derive(Debug)]
pub(crate) struct ReadRange {
    /// For whom.
    pub(crate) subscription: Arc<Subscription>,
    /// From here on.
    pub(crate) after: Position,
    /// To here.
    pub(crate) up_to: Position,
}
