//! The nodes of a hub. A node is alive while its lease runs.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::{Store, StoreError, within};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone)]
pub struct NodeName {
    /// New at each start.
    pub id: Uuid,
    /// The address of its HTTP server.
    pub address: String,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: NodeName,
    pub version: String,
    pub started_at: UnixMillis,
    pub leased_until: UnixMillis,
    /// Whether the lease runs now.
    pub alive: bool,
    pub leaving: bool,
    /// The number of shards that name it as their owner.
    pub shards: u16,
}

/// Identifies a database server and its history. After a failover to a standby at least one part differs, and what the
/// hub remembers may not be in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Postgres' system identifier.
    pub system: i64,
    /// The timeline, as the first eight digits of a WAL file's name.
    pub timeline: String,
}

/// Converts a duration to a Postgres interval. A duration that is too long becomes the maximum.
fn interval(length: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX),
    }
}

impl Store {
    /// Renews the lease, which then ends after the time `lease`, and records `seen` as [`Self::update_enforced`] does. The
    /// result lets the caller notice a failover.
    pub async fn renew_lease(
        &self,
        node: &NodeName,
        lease: Duration,
        seen: Position,
    ) -> Result<ServerIdentity, StoreError> {
        let row = within(
            sqlx::query!(
                r#"INSERT INTO nodes AS n (id, address, version, leased_until, seen)
                   VALUES ($1, $2, $3, clock_timestamp() + $4::interval, $5)
                   ON CONFLICT (id) DO UPDATE
                   SET leased_until = excluded.leased_until, seen = greatest(n.seen, excluded.seen)
                   RETURNING (SELECT system_identifier FROM pg_control_system()) AS "system!",
                             left(pg_walfile_name(pg_current_wal_lsn()), 8) AS "timeline!""#,
                node.id,
                node.address,
                env!("CARGO_PKG_VERSION"),
                interval(lease),
                seen.stored(),
            )
            .fetch_one(&self.lease_pool),
        )
        .await?;
        Ok(ServerIdentity { system: row.system, timeline: row.timeline })
    }

    /// Records that the node's delivery has applied all subscription changes in the log up to `position`.
    pub async fn update_acted_on(&self, node: Uuid, position: Position) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "UPDATE nodes SET acted_on = $2 WHERE id = $1 AND acted_on < $2",
            node,
            position.stored(),
        ))
        .await
    }

    /// Returns whether the owner of `shard` has applied all subscription changes up to `position`. Also true if the
    /// owner is `node` itself, or has lost its lease, or if the shard has no owner.
    pub async fn has_other_owner_applied(
        &self,
        node: Uuid,
        shard: u16,
        position: Position,
    ) -> Result<bool, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT NOT EXISTS (
                   SELECT FROM shards s JOIN nodes n ON n.id = s.holder
                   WHERE s.shard = $2 AND n.id <> $1 AND n.leased_until >= clock_timestamp() AND n.acted_on < $3
               ) AS "acted!""#,
            node,
            i16::try_from(shard).unwrap_or_default(),
            position.stored(),
        ))
        .await
    }

    /// Records that the node has read the log up to `position` and enforces the revocations up to there: no operation
    /// of those keys is in progress.
    pub async fn update_enforced(&self, node: Uuid, position: Position) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "UPDATE nodes SET seen = $2 WHERE id = $1 AND seen < $2",
            node,
            position.stored(),
        ))
        .await
    }

    /// Returns whether every live node enforces the revocations up to `position`.
    pub async fn have_all_enforced(&self, position: Position) -> Result<bool, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT NOT EXISTS (
                   SELECT FROM nodes WHERE leased_until >= clock_timestamp() AND seen < $1
               ) AS "enforced!""#,
            position.stored(),
        ))
        .await
    }

    /// Marks a node as stopping: others do not count it when they divide the shards. The lease stays valid.
    pub async fn update_leaving(&self, node: Uuid) -> Result<(), StoreError> {
        self.execute(sqlx::query!("UPDATE nodes SET leaving = true WHERE id = $1", node)).await
    }

    /// Counts the nodes that are alive and not stopping.
    pub async fn count_live_nodes(&self) -> Result<usize, StoreError> {
        let count = self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM nodes WHERE leased_until >= clock_timestamp() AND NOT leaving"#
        ));
        Ok(usize::try_from(count.await?).unwrap_or_default())
    }

    /// Selects all nodes, oldest first, including dead ones that are not deleted yet.
    pub async fn select_nodes(&self) -> Result<Vec<Node>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT n.id, n.address, n.version, n.leaving, n.leased_until >= clock_timestamp() AS "alive!",
                      (extract(epoch FROM n.started_at) * 1000)::bigint AS "started_at!",
                      (extract(epoch FROM n.leased_until) * 1000)::bigint AS "leased_until!",
                      (SELECT count(*) FROM shards s WHERE s.holder = n.id) AS "shards!"
               FROM nodes n ORDER BY n.started_at, n.id"#
        ))
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Node {
                name: NodeName { id: row.id, address: row.address },
                version: row.version,
                started_at: UnixMillis::from_i64(row.started_at),
                leased_until: UnixMillis::from_i64(row.leased_until),
                alive: row.alive,
                leaving: row.leaving,
                shards: u16::try_from(row.shards).unwrap_or_default(),
            })
            .collect())
    }

    pub async fn delete_node(&self, node: Uuid) -> Result<(), StoreError> {
        self.execute(sqlx::query!("DELETE FROM nodes WHERE id = $1", node)).await
    }

    /// Deletes the rows of all nodes. Used only with the embedded database, which no other node can use.
    pub async fn delete_all_nodes(&self) -> Result<(), StoreError> {
        self.execute(sqlx::query!("DELETE FROM nodes")).await
    }

    /// Deletes the rows of nodes whose lease ended over an hour ago, and returns their number.
    pub async fn delete_dead_nodes(&self) -> Result<u64, StoreError> {
        self.count_affected(sqlx::query!(
            "DELETE FROM nodes WHERE leased_until < clock_timestamp() - interval '1 hour'"
        ))
        .await
    }
}
