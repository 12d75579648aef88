//! Values that the engine exchanges with its driver: the actions it asks for, and their results.

use std::sync::Arc;

use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::outcome::Outcome;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::event::Event;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::verification::VerificationOutcome;
use crate::domain::subscription::version::Version;
use crate::domain::time::UnixMillis;

/// A subscription as the driver has loaded it from the database.
#[derive(Debug, Clone)]
pub(crate) struct LoadedSubscription {
    pub(crate) subscription: Subscription,
    /// Oldest first.
    pub(crate) versions: Vec<Version>,
}

/// A changed subscription, with the state of its deliveries in case the engine does not hold it yet.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionSnapshot {
    pub(crate) loaded: LoadedSubscription,
    pub(crate) state: DeliveryState,
}

/// Make a POST, and pass its result to [`Engine::handle_outcome`](super::Engine::handle_outcome).
#[derive(Debug)]
pub(crate) struct StartAttempt {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) event: Arc<Event>,
    /// From 1.
    pub(crate) number: u16,
    /// The term in which the shard is owned.
    pub(crate) term: i64,
}

/// Fetch the event of an attempt, and pass it to [`Engine::handle_fetched`](super::Engine::handle_fetched), which
/// returns the attempt to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchEvent {
    pub(crate) subscription: SubscriptionId,
    pub(crate) position: Position,
    /// The term in which the shard is owned.
    pub(crate) term: i64,
}

/// The result of a [`StartAttempt`].
#[derive(Debug)]
pub(crate) struct AttemptResult {
    /// The row that the next flush records.
    pub(crate) attempt: Attempt,
    pub(crate) outcome: Outcome,
    /// The term of the [`StartAttempt`].
    pub(crate) term: i64,
}

/// Read the log for a lagging subscription, and pass the page to
/// [`Engine::handle_read`](super::Engine::handle_read).
#[derive(Debug)]
pub(crate) struct ReadRange {
    pub(crate) subscription: Arc<Subscription>,
    /// Exclusive.
    pub(crate) after: Position,
    /// Inclusive.
    pub(crate) up_to: Position,
}

/// Read the log for a replay, and pass the page to
/// [`Engine::handle_replay_read`](super::Engine::handle_replay_read).
#[derive(Debug)]
pub(crate) struct ReadReplayRange {
    pub(crate) id: ReplayId,
    pub(crate) subscription: Arc<Subscription>,
    /// Exclusive.
    pub(crate) after: Position,
    /// Inclusive.
    pub(crate) up_to: Position,
}

/// Verify a receiver, and pass the result to
/// [`Engine::handle_verification`](super::Engine::handle_verification).
#[derive(Debug)]
pub(crate) struct VerifyReceiver {
    pub(crate) subscription: Arc<Subscription>,
    /// The term in which the shard is owned.
    pub(crate) term: i64,
}

/// The result of a [`VerifyReceiver`].
#[derive(Debug)]
pub(crate) struct VerificationResult {
    pub(crate) request: VerifyReceiver,
    /// The start of the attempt.
    pub(crate) attempted_at: UnixMillis,
    pub(crate) outcome: VerificationOutcome,
}
