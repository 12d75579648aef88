//! Where the deliveries to some subscriptions stand.

use super::replay::ReplayProgress;
use super::retry::Retry;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

/// Where the deliveries to some subscriptions stand.
#[derive(Debug, Clone, Default)]
pub struct DeliveryState {
    /// Subscriptions with a cursor of their own.
    pub cursors: Vec<(SubscriptionId, Position)>,
    /// Pairs that wait for their next attempt.
    pub retries: Vec<(SubscriptionId, Position, Retry)>,
    /// Pairs above their cursor that have been tried: the cursor stopped below them, their result is kept.
    pub tried: Vec<(SubscriptionId, Position)>,
    /// Replays that go on.
    pub replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
}

impl DeliveryState {
    /// Of one subscription alone.
    #[must_use]
    pub fn of(&self, id: SubscriptionId) -> Self {
        Self {
            cursors: self.cursors.iter().filter(|(one, _)| *one == id).copied().collect(),
            retries: self.retries.iter().filter(|(one, ..)| *one == id).copied().collect(),
            tried: self.tried.iter().filter(|(one, _)| *one == id).copied().collect(),
            replays: self.replays.iter().filter(|(_, one, _)| *one == id).cloned().collect(),
        }
    }
}
