//! The recorded delivery state of subscriptions, from which a new owner of their shard continues.

use super::replay::ReplayProgress;
use super::retry::Retry;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

/// Cursors, retries, attempted deliveries and replays of some subscriptions.
#[derive(Debug, Clone, Default)]
pub struct DeliveryState {
    /// The subscriptions with a cursor of their own.
    pub cursors: Vec<(SubscriptionId, Position)>,
    pub retries: Vec<(SubscriptionId, Position, Retry)>,
    /// Deliveries above the cursor with a recorded attempt.
    pub attempted: Vec<(SubscriptionId, Position)>,
    pub replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
}

impl DeliveryState {
    /// Returns only the parts of the subscription `id`.
    #[must_use]
    pub fn of(&self, id: SubscriptionId) -> Self {
        Self {
            cursors: self.cursors.iter().filter(|(one, _)| *one == id).copied().collect(),
            retries: self.retries.iter().filter(|(one, ..)| *one == id).copied().collect(),
            attempted: self.attempted.iter().filter(|(one, _)| *one == id).copied().collect(),
            replays: self.replays.iter().filter(|(_, one, _)| *one == id).cloned().collect(),
        }
    }
}
