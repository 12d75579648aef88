//! What the engine asks for, and what comes back.

use std::sync::Arc;

use crate::store::deliveries::Attempt;
use crate::values::event::Event;
use crate::values::id::SubscriptionId;
use crate::values::outcome::Outcome;
use crate::values::position::Position;
use crate::values::subscription::Subscription;

/// A POST to make.
#[derive(Debug)]
pub(in crate::dispatch) struct Start {
    /// To whom.
    pub(in crate::dispatch) subscription: Arc<Subscription>,
    /// What.
    pub(in crate::dispatch) event: Arc<Event>,
    /// Which attempt, from 1.
    pub(in crate::dispatch) number: u16,
    /// The term in which its shard is owned.
    pub(in crate::dispatch) term: i64,
}

/// An event to fetch, for an attempt at it.
#[derive(Debug, Clone, Copy)]
pub(in crate::dispatch) struct Fetch {
    /// To whom.
    pub(in crate::dispatch) id: SubscriptionId,
    /// Where it is.
    pub(in crate::dispatch) position: Position,
    /// The term in which the subscription's shard is owned.
    pub(in crate::dispatch) term: i64,
}

/// An attempt that was made.
#[derive(Debug)]
pub(in crate::dispatch) struct Made {
    /// To be recorded.
    pub(in crate::dispatch) attempt: Attempt,
    /// What came of it.
    pub(in crate::dispatch) outcome: Outcome,
    /// The term in which it began.
    pub(in crate::dispatch) term: i64,
}

/// A stretch of the log to read for a subscription that is behind.
#[derive(Debug)]
pub(in crate::dispatch) struct Read {
    /// For whom.
    pub(in crate::dispatch) subscription: Arc<Subscription>,
    /// From here on.
    pub(in crate::dispatch) after: Position,
    /// To here.
    pub(in crate::dispatch) up_to: Position,
}
