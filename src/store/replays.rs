//! Replays and their progress.

use super::{Store, StoreError};
use crate::domain::delivery::replay::{RecordedDelivery, ReplayProgress};
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

struct ReplayRow {
    id: i64,
    subscription: i64,
    after: i64,
    until: i64,
    only: String,
    count: i64,
    position: i64,
    replayed: i64,
    status: String,
}

impl ReplayRow {
    fn into_progress(self) -> Result<(ReplayId, SubscriptionId, ReplayProgress), StoreError> {
        let id = ReplayId::from_stored(self.id);
        let unreadable = |_unknown| StoreError::Unreadable(format!("replay {id}"));
        let progress = ReplayProgress {
            after: Position::from_stored(self.after),
            until: Position::from_stored(self.until),
            only: self.only.parse().map_err(unreadable)?,
            count: self.count.unsigned_abs(),
            position: Position::from_stored(self.position),
            replayed: self.replayed.unsigned_abs(),
            state: self.status.parse().map_err(unreadable)?,
        };
        Ok((id, SubscriptionId::from_stored(self.subscription), progress))
    }
}

impl Store {
    /// Selects the running replays of these subscriptions, of any tenant.
    pub async fn select_running_replays(
        &self,
        subscriptions: &[i64],
    ) -> Result<Vec<(ReplayId, SubscriptionId, ReplayProgress)>, StoreError> {
        let rows = self.fetch_all(sqlx::query_as!(
            ReplayRow,
            r#"SELECT id, subscription, after, until, "only", count, position, replayed, status FROM replays
             WHERE subscription = ANY($1) AND status = 'running'"#,
            subscriptions,
        ));
        rows.await?.into_iter().map(ReplayRow::into_progress).collect()
    }

    /// Selects replays, newest first, with ids below `below`. A replay has no row before the shard's owner starts it.
    pub async fn select_replays(
        &self,
        subscription: SubscriptionId,
        below: Option<ReplayId>,
        limit: i64,
    ) -> Result<Vec<(ReplayId, ReplayProgress)>, StoreError> {
        let rows = self.fetch_all(sqlx::query_as!(
            ReplayRow,
            r#"SELECT id, subscription, after, until, "only", count, position, replayed, status FROM replays
             WHERE subscription = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"#,
            subscription.stored(),
            below.map(ReplayId::stored),
            limit,
        ));
        let read = |row: ReplayRow| row.into_progress().map(|(id, _, progress)| (id, progress));
        rows.await?.into_iter().map(read).collect()
    }

    /// Selects the progress of a replay; `None` while the node that owns the shard has not started the replay.
    pub async fn select_replay(
        &self,
        subscription: SubscriptionId,
        id: ReplayId,
    ) -> Result<Option<ReplayProgress>, StoreError> {
        let row = self.fetch_optional(sqlx::query_as!(
            ReplayRow,
            r#"SELECT id, subscription, after, until, "only", count, position, replayed, status FROM replays
             WHERE subscription = $1 AND id = $2"#,
            subscription.stored(),
            id.stored(),
        ));
        row.await?.map(|row| row.into_progress().map(|(_, _, progress)| progress)).transpose()
    }

    /// Selects the state of the deliveries of the events at `positions` to one subscription. Leaves out events that
    /// have no recorded attempt.
    pub async fn select_attempted(
        &self,
        subscription: SubscriptionId,
        positions: &[i64],
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT a.position, max(a.number) AS "attempts!",
                      bool_or(coalesce(a.status BETWEEN 200 AND 299, false)) AS "is_delivered!",
                      EXISTS (SELECT FROM retries r WHERE r.subscription = $1 AND r.position = a.position) AS "is_waiting!"
               FROM attempts a WHERE a.subscription = $1 AND a.position = ANY($2) GROUP BY a.position"#,
            subscription.stored(),
            positions,
        ));
        let deliveries = rows.await?.into_iter().map(|row| RecordedDelivery {
            position: Position::from_stored(row.position),
            attempts: row.attempts.unsigned_abs(),
            is_delivered: row.is_delivered,
            is_waiting: row.is_waiting,
        });
        Ok(deliveries.collect())
    }

    /// Cancels the running replays of deleted subscriptions, and returns their number.
    pub async fn cancel_replays_of_deleted(&self) -> Result<u64, StoreError> {
        self.count_affected(sqlx::query!(
            "UPDATE replays r SET status = 'cancelled' FROM subscriptions s
             WHERE s.id = r.subscription AND s.deleted AND r.status = 'running'"
        ))
        .await
    }
}
