//! The cursors of pull subscriptions.

use super::{Store, StoreError};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullCursor {
    /// Everything at or below is acknowledged.
    pub position: Position,
    /// The subscription was a webhook up to here: events that it delivered are not served again. 0: it never was, or
    /// the client has moved the cursor since.
    pub delivered_up_to: Position,
}

impl Store {
    /// Selects a pull subscription's cursor; `None` if `id` is not a pull subscription.
    pub async fn select_pull_cursor(
        &self,
        id: SubscriptionId,
    ) -> Result<Option<PullCursor>, StoreError> {
        let row = self.fetch_optional(sqlx::query!(
            "SELECT position, delivered_up_to FROM pull_cursors WHERE subscription = $1",
            id.stored(),
        ));
        Ok(row.await?.map(|row| PullCursor {
            position: Position::from_stored(row.position),
            delivered_up_to: Position::from_stored(row.delivered_up_to),
        }))
    }

    /// Moves the cursor to `position` unless it is beyond, and returns the cursor. `None` if `id` is not a pull
    /// subscription.
    pub async fn advance_pull_cursor(
        &self,
        id: SubscriptionId,
        position: Position,
    ) -> Result<Option<Position>, StoreError> {
        let moved = self.fetch_optional_scalar(sqlx::query_scalar!(
            "UPDATE pull_cursors SET position = greatest(position, $2) WHERE subscription = $1
             RETURNING position",
            id.stored(),
            position.stored(),
        ));
        Ok(moved.await?.map(Position::from_stored))
    }

    /// Moves the cursor to `position`, forward or back. The subscription then gets all events above it, also those that
    /// its former webhook delivered. False if `id` is not a pull subscription.
    pub async fn seek_pull_cursor(
        &self,
        id: SubscriptionId,
        position: Position,
    ) -> Result<bool, StoreError> {
        let moved = self.count_affected(sqlx::query!(
            "UPDATE pull_cursors SET position = $2, delivered_up_to = 0 WHERE subscription = $1",
            id.stored(),
            position.stored(),
        ));
        Ok(moved.await? > 0)
    }

    /// Selects those of `positions` whose event the former webhook of a pull subscription has delivered. Events whose
    /// attempts have expired are missing.
    pub async fn select_delivered(
        &self,
        id: SubscriptionId,
        positions: &[i64],
    ) -> Result<Vec<Position>, StoreError> {
        let rows = self.fetch_scalars(sqlx::query_scalar!(
            "SELECT position FROM attempts
             WHERE subscription = $1 AND position = ANY($2) AND status BETWEEN 200 AND 299",
            id.stored(),
            positions,
        ));
        Ok(rows.await?.into_iter().map(Position::from_stored).collect())
    }
}
