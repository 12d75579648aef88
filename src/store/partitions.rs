//! Partitions of events and attempts: made ahead of time, dropped whole when they are old and no longer needed.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::{Store, StoreError, connect, within};
use crate::domain::position::Position;
use crate::domain::retention::Retention;

/// How many days ahead partitions are made, besides yesterday's and today's.
const DAYS_AHEAD: i32 = 7;
/// How long a drop waits for its locks; what is appended and recorded goes on meanwhile.
const LOCK_TIMEOUT: &str = "3s";

/// A partition to drop.
#[derive(Debug)]
pub struct OldPartition {
    /// What it is a part of: while one of its partitions waits to be detached, no other can be.
    pub parent: String,
    /// Its table.
    pub name: String,
    up_to: Position,
    attached: bool,
    detaching: bool,
}

/// The right to drop partitions: one node has it at a time, until this is dropped.
#[derive(Debug)]
pub struct RetentionTurn {
    connection: PgConnection,
}

impl Store {
    /// Makes sure that events and attempts of the coming days can be stored.
    pub async fn create_partitions(&self) -> Result<(), StoreError> {
        within(
            sqlx::query!("SELECT create_partitions($1) AS made", DAYS_AHEAD).fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Takes the turn, on a connection of its own; `None` while another node has it.
    pub async fn try_lock_retention(&self) -> Result<Option<RetentionTurn>, StoreError> {
        let options = self.options.clone().options([("lock_timeout", LOCK_TIMEOUT)]);
        let mut connection = connect(&options).await?;
        let taken = within(
            sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(7308324465820954) AS "taken!""#)
                .fetch_one(&mut connection),
        );
        Ok(taken.await?.then_some(RetentionTurn { connection }))
    }

    /// The partitions that are older than they need be and of whose events no cursor is at or below, oldest first;
    /// among them those of a drop that was cut short.
    pub async fn select_old_partitions(
        &self,
        kept: Retention,
    ) -> Result<Vec<OldPartition>, StoreError> {
        let rows = within(
            sqlx::query!(
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
                i32::from(kept.events_days),
                i32::from(kept.attempts_days),
            )
            .fetch_all(&self.pool),
        )
        .await?;
        let old = rows.into_iter().map(|row| OldPartition {
            parent: row.parent,
            name: row.name,
            up_to: Position::from_stored(row.up_to),
            attached: row.attached,
            detaching: row.detaching,
        });
        Ok(old.collect())
    }
}

impl RetentionTurn {
    /// Drops a partition. `Unavailable` when a lock was not had in time: what was done of it stays done, and the rest
    /// may be done later.
    pub async fn drop_partition(&mut self, old: &OldPartition) -> Result<(), StoreError> {
        let OldPartition { parent, name, .. } = old;
        if parent == "attempts" {
            self.update_attempts_horizon(old.up_to).await?;
        }
        // Takes no lock that an append or a flush would have to wait for; a plain detach does. New statements do not
        // see the partition from then on, and its drop waits for the old ones.
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

    /// From now on what is tried of events up to there is not recorded: its partition is going.
    async fn update_attempts_horizon(&mut self, up_to: Position) -> Result<(), StoreError> {
        within(
            sqlx::query!("UPDATE horizons SET attempts = $1 WHERE attempts < $1", up_to.stored(),)
                .execute(&mut self.connection),
        )
        .await
        .map(drop)
    }

    /// Names come from the catalogue, and are those that `create_partitions` gives.
    async fn alter(&mut self, statement: String) -> Result<(), StoreError> {
        within(self.connection.execute(AssertSqlSafe(statement))).await.map(drop)
    }
}
