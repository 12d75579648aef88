//! Daily partitions of events and attempts: created ahead of time, dropped when they have expired.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::{Store, StoreError, connect, within};
use crate::domain::position::Position;
use crate::domain::retention::Retention;

/// How many days ahead partitions are created, besides yesterday's and today's.
const DAYS_AHEAD: i32 = 7;
/// How long a drop waits for its locks. Appends and flushes continue meanwhile.
const LOCK_TIMEOUT: &str = "3s";

#[derive(Debug)]
pub struct ExpiredPartition {
    /// The partitioned table. While one partition waits to be detached, no other of the same table can be.
    pub parent: String,
    pub name: String,
    /// The highest position that belongs to the partition.
    up_to: Position,
    attached: bool,
    /// A detach was interrupted.
    detaching: bool,
}

/// The lock for retention work: one node holds it at a time, until the value is dropped.
#[derive(Debug)]
pub struct RetentionLock {
    connection: PgConnection,
}

impl Store {
    /// Creates the missing daily partitions of events and attempts, from yesterday's to the one a week ahead.
    pub async fn create_partitions(&self) -> Result<(), StoreError> {
        self.execute(sqlx::query!("SELECT create_partitions($1) AS made", DAYS_AHEAD)).await
    }

    /// Tries to acquire the retention lock, on its own connection. `None` while another node holds it.
    pub async fn try_lock_retention(&self) -> Result<Option<RetentionLock>, StoreError> {
        let options = self.options.clone().options([("lock_timeout", LOCK_TIMEOUT)]);
        let mut connection = connect(&options).await?;
        let locked = within(
            sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(7308324465820957) AS "locked!""#)
                .fetch_one(&mut connection),
        );
        Ok(locked.await?.then_some(RetentionLock { connection }))
    }

    /// Selects the partitions older than `retention` that no cursor and no retry needs, oldest first, including those
    /// of an interrupted drop.
    pub async fn select_expired_partitions(
        &self,
        retention: Retention,
    ) -> Result<Vec<ExpiredPartition>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT p.parent AS "parent!", p.name AS "name!", p.next - 1 AS "up_to!",
                      p.attached AS "attached!", p.detaching AS "detaching!"
               FROM (
                   SELECT left(c.relname, -9) AS parent, c.relname::text AS name,
                          to_date(right(c.relname, 8), 'YYYYMMDD') + 1 AS ends,
                          (extract(epoch FROM to_date(right(c.relname, 8), 'YYYYMMDD') + 1) * 1000)::bigint << 20 AS next,
                          i.inhparent IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS detaching
                   FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
                   WHERE c.relkind = 'r' AND c.relname ~ '^(events|attempts)_[0-9]{8}$'
                     AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass)
               ) p
               CROSS JOIN needed_above() n
               WHERE p.ends <= (now() AT TIME ZONE 'UTC')::date - CASE p.parent WHEN 'events' THEN $1::int ELSE $2::int END
                 AND NOT EXISTS (
                     SELECT FROM events e
                     WHERE e.position > CASE p.parent WHEN 'events' THEN n.events ELSE n.attempts END
                       AND e.position < p.next
                 )
               ORDER BY p.next, p.parent"#,
            i32::from(retention.events_days),
            i32::from(retention.attempts_days),
        ))
        .await?;
        let expired = rows.into_iter().map(|row| ExpiredPartition {
            parent: row.parent,
            name: row.name,
            up_to: Position::from_stored(row.up_to),
            attached: row.attached,
            detaching: row.detaching,
        });
        Ok(expired.collect())
    }
}

impl RetentionLock {
    /// Detaches and drops a partition. [`StoreError::Unavailable`] if a lock timed out: finished steps stay, and a
    /// later call continues.
    pub async fn drop_partition(&mut self, old: &ExpiredPartition) -> Result<(), StoreError> {
        let ExpiredPartition { parent, name, .. } = old;
        if parent == "attempts" {
            self.update_attempts_horizon(old.up_to).await?;
        }
        // CONCURRENTLY takes no lock that blocks appends or flushes; a plain DETACH does. New statements no longer see
        // the partition, and the detach waits for the end of older ones.
        match (old.attached, old.detaching) {
            (true, false) => {
                let detach = format!("ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY");
                self.alter(detach).await?;
            }
            (true, true) => {
                let detach = format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE");
                self.alter(detach).await?;
            }
            (false, _) => {}
        }
        self.alter(format!("DROP TABLE {name}")).await
    }

    /// Records that attempts for events up to `up_to` have expired, so that flushes no longer write any: their
    /// partition is about to be dropped.
    async fn update_attempts_horizon(&mut self, up_to: Position) -> Result<(), StoreError> {
        within(
            sqlx::query!("UPDATE horizons SET attempts = $1 WHERE attempts < $1", up_to.stored(),)
                .execute(&mut self.connection),
        )
        .await
        .map(drop)
    }

    /// Runs a statement that contains table names, such as `ALTER TABLE`. The text is safe: the names come from the
    /// Postgres catalogue and match the pattern of partition names.
    async fn alter(&mut self, statement: String) -> Result<(), StoreError> {
        within(self.connection.execute(AssertSqlSafe(statement))).await.map(drop)
    }
}
