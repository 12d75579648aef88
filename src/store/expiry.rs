//! Cursors that retention overtakes: who they are, what they lose, and moving them on.

use std::sync::Arc;

use uuid::Uuid;

use super::{Store, StoreError, within};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::TEST_EVENT;
use crate::domain::subscription::gap::{GAP, Gap};

/// A subscription that still needs events which are to go.
#[derive(Debug)]
pub struct Overtaken {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// All at or below was dealt with, or was counted when it went.
    pub after: Position,
}

/// How many events of one type there are in a stretch of the log.
#[derive(Debug)]
pub struct Tally {
    /// Whose.
    pub tenant: String,
    /// Their type.
    pub event_type: String,
    /// For test events: the subscription they are for.
    pub about: Option<SubscriptionId>,
    /// How many.
    pub events: u64,
    /// The first of them.
    pub first: Position,
    /// The last of them.
    pub last: Position,
}

/// What is on record of a subscription's events up to a place.
#[derive(Debug, Default)]
pub struct Dealt {
    /// Events above its cursor that need nothing more.
    pub settled: u64,
    /// Events up to its cursor that wait for their next attempt.
    pub waiting: u64,
    /// The first and the last event that waits for its next attempt.
    pub retries: Option<(Position, Position)>,
}

/// What a subscription did not get before it was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// How many events, ever.
    pub events: u64,
    /// All at or below is counted.
    pub up_to: Position,
}

impl Store {
    /// How far the log is gone: the newest event that is.
    pub async fn select_expired_up_to(&self) -> Result<Position, StoreError> {
        within(sqlx::query_scalar!("SELECT events FROM horizons").fetch_one(&self.pool))
            .await
            .map(Position::from_stored)
    }

    /// The newest of the events that are older than so many days and still here.
    pub async fn select_newest_older_than(
        &self,
        days: u16,
    ) -> Result<Option<Position>, StoreError> {
        within(
            sqlx::query_scalar!(
                "SELECT position FROM events
                 WHERE position < (extract(epoch FROM (now() AT TIME ZONE 'UTC')::date - $1::int) * 1000)::bigint << 20
                 ORDER BY position DESC LIMIT 1",
                i32::from(days),
            )
            .fetch_optional(&self.pool),
        )
        .await
        .map(|newest| newest.map(Position::from_stored))
    }

    /// The subscriptions with a cursor below a place, or a retry up to there.
    pub async fn select_lagging(&self, gone: Position) -> Result<Vec<Overtaken>, StoreError> {
        let rows = within(
            sqlx::query!(
                r#"SELECT s.id, s.tenant,
                          greatest(coalesce(p.position, c.position, h.cursor), x.up_to) AS "after!"
                   FROM subscriptions s
                   JOIN shards h ON h.shard = s.shard
                   LEFT JOIN subscription_cursors c ON c.subscription = s.id
                   LEFT JOIN pull_cursors p ON p.subscription = s.id
                   LEFT JOIN expirations x ON x.subscription = s.id
                   WHERE NOT s.deleted AND coalesce(x.up_to, 0) < $1
                     AND (coalesce(p.position, c.position, h.cursor) < $1
                          OR EXISTS (SELECT FROM retries r WHERE r.subscription = s.id AND r.position <= $1))"#,
                gone.stored(),
            )
            .fetch_all(&self.pool),
        );
        let overtaken = rows.await?.into_iter().map(|row| Overtaken {
            id: SubscriptionId::from_stored(row.id),
            tenant: row.tenant.into(),
            after: Position::from_stored(row.after),
        });
        Ok(overtaken.collect())
    }

    /// Counts the next so many events after a place by type. Together they are fewer only at `up_to`.
    pub async fn select_event_counts(
        &self,
        after: Position,
        up_to: Position,
        events: u16,
    ) -> Result<Vec<Tally>, StoreError> {
        let rows = within(
            sqlx::query!(
                r#"SELECT tenant, type AS event_type, about, count(*) AS "events!", min(position) AS "first!",
                          max(position) AS "last!"
                   FROM (
                       SELECT position, tenant, type, CASE WHEN type = $4 THEN about END AS about
                       FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
                   ) page
                   GROUP BY tenant, type, about"#,
                after.stored(),
                up_to.stored(),
                i64::from(events),
                TEST_EVENT,
            )
            .fetch_all(&self.pool),
        );
        let tallies = rows.await?.into_iter().map(|row| Tally {
            tenant: row.tenant,
            event_type: row.event_type,
            about: row.about.map(SubscriptionId::from_stored),
            events: row.events.unsigned_abs(),
            first: Position::from_stored(row.first),
            last: Position::from_stored(row.last),
        });
        Ok(tallies.collect())
    }

    /// What is on record of the events up to `gone` of a subscription that is overtaken. One that is pulled owes
    /// nothing to retries, and a callback's failures settle nothing for it.
    pub async fn select_resolved(
        &self,
        overtaken: &Overtaken,
        gone: Position,
    ) -> Result<Dealt, StoreError> {
        let row = within(
            sqlx::query!(
                r#"SELECT count(DISTINCT a.position) AS "settled!",
                          (SELECT count(*) FROM retries r
                           WHERE r.subscription = $1 AND r.position <= least($2, $3::bigint)
                             AND NOT EXISTS (SELECT FROM pull_cursors p WHERE p.subscription = $1)) AS "waiting!",
                          (SELECT min(r.position) FROM retries r WHERE r.subscription = $1) AS first,
                          (SELECT max(r.position) FROM retries r WHERE r.subscription = $1 AND r.position <= $3) AS last
                   FROM attempts a
                   LEFT JOIN pull_cursors p ON p.subscription = a.subscription
                   LEFT JOIN retries r ON r.subscription = a.subscription AND r.position = a.position
                   WHERE a.subscription = $1 AND a.position > $2 AND a.position <= $3
                     AND CASE WHEN p.subscription IS NULL THEN r.subscription IS NULL
                              ELSE a.position <= p.delivered_up_to AND a.status BETWEEN 200 AND 299 END"#,
                overtaken.id.stored(),
                overtaken.after.stored(),
                gone.stored(),
            )
            .fetch_one(&self.pool),
        );
        let row = row.await?;
        let retries = row.first.zip(row.last);
        Ok(Dealt {
            settled: row.settled.unsigned_abs(),
            waiting: row.waiting.unsigned_abs(),
            retries: retries
                .map(|(first, last)| (Position::from_stored(first), Position::from_stored(last))),
        })
    }

    /// Notes that a subscription does not get its events up to `gone` any more, ends their retries, moves its cursor
    /// there, and appends the entry that tells it, in one commit. Whether that was still to be done.
    pub async fn record_gap(
        &self,
        id: SubscriptionId,
        gone: Position,
        told: &Gap,
    ) -> Result<bool, StoreError> {
        let data =
            serde_json::to_vec(told).map_err(|error| StoreError::Unreadable(error.to_string()))?;
        within(
            sqlx::query_scalar!(
                r#"SELECT expire_deliveries($1, $2, $3, $4, $5, $6) AS "told!""#,
                id.stored(),
                gone.stored(),
                i64::try_from(told.events).unwrap_or(i64::MAX),
                Uuid::new_v4(),
                GAP,
                data,
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// Moves all cursors that are below to `gone`, and the log's own beginning.
    pub async fn advance_cursors(&self, gone: Position) -> Result<(), StoreError> {
        within(sqlx::query!("SELECT pass_over($1) AS passed", gone.stored()).fetch_one(&self.pool))
            .await
            .map(drop)
    }

    /// What a subscription did not get before it was gone; `None`: nothing.
    pub async fn select_expired(&self, id: SubscriptionId) -> Result<Option<Expired>, StoreError> {
        let row = within(
            sqlx::query!(
                "SELECT events, up_to FROM expirations WHERE subscription = $1",
                id.stored()
            )
            .fetch_optional(&self.pool),
        );
        Ok(row.await?.map(|row| Expired {
            events: row.events.unsigned_abs(),
            up_to: Position::from_stored(row.up_to),
        }))
    }
}
