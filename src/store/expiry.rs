//! Retention and lagging cursors: which subscriptions lose events, how many, and moving the cursors.

use std::sync::Arc;

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::TEST_EVENT;
use crate::domain::subscription::gap::{GAP, Gap};

/// A subscription that may lose events to retention.
#[derive(Debug)]
pub struct LaggingSubscription {
    pub id: SubscriptionId,
    pub tenant: Arc<str>,
    /// The cursor: everything at or below is resolved or has a retry, or is already counted as expired.
    pub after: Position,
}

/// The number of events of one type in a range of the log.
#[derive(Debug)]
pub struct EventCount {
    pub tenant: String,
    pub event_type: String,
    /// For test events: the subscription that receives them.
    pub about: Option<SubscriptionId>,
    pub events: u64,
    pub first: Position,
    pub last: Position,
}

/// Counts of a lagging subscription's expiring events, from its attempts and retries.
#[derive(Debug, Default)]
pub struct ResolvedEvents {
    /// Events above its cursor that are delivered or exhausted.
    pub resolved: u64,
    /// Events at or below its cursor that wait for a retry.
    pub waiting: u64,
    /// The first and the last event that waits for a retry.
    pub retries: Option<(Position, Position)>,
}

/// How many events expired before a subscription received them, in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    pub events: u64,
    /// Everything at or below is counted.
    pub up_to: Position,
}

impl Store {
    /// Selects the position of the newest expired event. The log begins after it.
    pub async fn select_expired_up_to(&self) -> Result<Position, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!("SELECT events FROM horizons"))
            .await
            .map(Position::from_stored)
    }

    /// Selects the position of the newest stored event from before the UTC day that began `days` days before today's.
    /// `None` if all events are newer.
    pub async fn select_newest_older_than(
        &self,
        days: u16,
    ) -> Result<Option<Position>, StoreError> {
        self.fetch_optional_scalar(sqlx::query_scalar!(
            "SELECT position FROM events
             WHERE position < (extract(epoch FROM (now() AT TIME ZONE 'UTC')::date - $1::int) * 1000)::bigint << 20
             ORDER BY position DESC LIMIT 1",
            i32::from(days),
        ))
        .await
        .map(|newest| newest.map(Position::from_stored))
    }

    /// Selects the subscriptions that may lose events if all events up to `expired_up_to` expire: the cursor is below,
    /// or a retry is at or below it. Leaves out those whose loss is already recorded up to `expired_up_to`.
    pub async fn select_lagging(
        &self,
        expired_up_to: Position,
    ) -> Result<Vec<LaggingSubscription>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
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
            expired_up_to.stored(),
        ));
        let lagging = rows.await?.into_iter().map(|row| LaggingSubscription {
            id: SubscriptionId::from_stored(row.id),
            tenant: row.tenant.into(),
            after: Position::from_stored(row.after),
        });
        Ok(lagging.collect())
    }

    /// Counts the next `events` events above `after` and up to `up_to`, by tenant, type and test subscription. A total
    /// below `events` means that none remain up to `up_to`.
    pub async fn select_event_counts(
        &self,
        after: Position,
        up_to: Position,
        events: u16,
    ) -> Result<Vec<EventCount>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
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
        ));
        let counts = rows.await?.into_iter().map(|row| EventCount {
            tenant: row.tenant,
            event_type: row.event_type,
            about: row.about.map(SubscriptionId::from_stored),
            events: row.events.unsigned_abs(),
            first: Position::from_stored(row.first),
            last: Position::from_stored(row.last),
        });
        Ok(counts.collect())
    }

    /// Counts a lagging subscription's events up to `expired_up_to`: those above its cursor that are delivered or
    /// exhausted, and those at or below its cursor that wait for a retry.
    ///
    /// For a pull subscription, retries do not count, and only successful attempts of its former webhook resolve an
    /// event.
    pub async fn select_resolved(
        &self,
        lagging: &LaggingSubscription,
        expired_up_to: Position,
    ) -> Result<ResolvedEvents, StoreError> {
        let row = self.fetch_one(sqlx::query!(
            r#"SELECT count(DISTINCT a.position) AS "resolved!",
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
            lagging.id.stored(),
            lagging.after.stored(),
            expired_up_to.stored(),
        ));
        let row = row.await?;
        let retries = row.first.zip(row.last);
        Ok(ResolvedEvents {
            resolved: row.resolved.unsigned_abs(),
            waiting: row.waiting.unsigned_abs(),
            retries: retries
                .map(|(first, last)| (Position::from_stored(first), Position::from_stored(last))),
        })
    }

    /// Records that a subscription loses its undelivered events up to `expired_up_to`. One commit deletes their
    /// retries, moves the cursor, and appends `gap`. False, without effect, if it was recorded before or the
    /// subscription is deleted.
    pub async fn record_gap(
        &self,
        id: SubscriptionId,
        expired_up_to: Position,
        gap: &Gap,
    ) -> Result<bool, StoreError> {
        let data =
            serde_json::to_vec(gap).map_err(|error| StoreError::Unreadable(error.to_string()))?;
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT expire_deliveries($1, $2, $3, $4, $5, $6) AS "recorded!""#,
            id.stored(),
            expired_up_to.stored(),
            i64::try_from(gap.events).unwrap_or(i64::MAX),
            Uuid::new_v4(),
            GAP,
            data,
        ))
        .await
    }

    /// Expires all events up to the position `expired_up_to`, in one commit: moves the beginning of the log and every
    /// cursor below it there, and deletes the retries of these events.
    pub async fn advance_cursors(&self, expired_up_to: Position) -> Result<(), StoreError> {
        self.execute(sqlx::query!("SELECT pass_over($1) AS passed", expired_up_to.stored())).await
    }

    /// Selects how many undelivered events of a subscription have expired; `None` if none have.
    pub async fn select_expired(
        &self,
        id: SubscriptionId,
    ) -> Result<Option<Expiration>, StoreError> {
        let row = self.fetch_optional(sqlx::query!(
            "SELECT events, up_to FROM expirations WHERE subscription = $1",
            id.stored()
        ));
        Ok(row.await?.map(|row| Expiration {
            events: row.events.unsigned_abs(),
            up_to: Position::from_stored(row.up_to),
        }))
    }
}
