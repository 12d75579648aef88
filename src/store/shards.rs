//! Who owns which shards: holder, term, and a lease that hangs on the holder's node row.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::{Store, StoreError, within};
use crate::values::position::Position;

/// A shard that this node owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedShard {
    /// Which, from 0.
    pub shard: u16,
    /// Raised by each taking; named in every write.
    pub term: i64,
    /// All at or below is resolved for its subscriptions that have no cursor of their own.
    pub cursor: Position,
}

fn interval(length: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX),
    }
}

impl Store {
    /// Says that the node lives, for `lease` from now on.
    pub async fn renew_lease(&self, node: Uuid, lease: Duration) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "INSERT INTO nodes (id, leased_until) VALUES ($1, clock_timestamp() + $2::interval)
                 ON CONFLICT (id) DO UPDATE SET leased_until = excluded.leased_until",
                node,
                interval(lease),
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Takes the shards that nobody owns, or only this node, anew, and says which. For a node that is not at work.
    pub async fn take_free_shards(&self, node: Uuid) -> Result<Vec<OwnedShard>, StoreError> {
        let rows = within(
            sqlx::query!(
                r#"SELECT taken AS "shard!", new_term AS "term!", at_cursor AS "cursor!" FROM take_free_shards($1)"#,
                node,
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| OwnedShard {
                shard: u16::try_from(row.shard).unwrap_or_default(),
                term: row.term,
                cursor: Position::from_stored(row.cursor),
            })
            .collect())
    }

    /// Gives back all that the node owns, so that another need not wait for the lease to run out.
    pub async fn release_node(&self, node: Uuid) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "WITH gone AS (DELETE FROM nodes WHERE id = $1)
                 UPDATE shards SET holder = NULL WHERE holder = $1",
                node
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Ends all leases, for the only node that can reach this database: there is nobody to wait for.
    pub async fn end_all_leases(&self) -> Result<(), StoreError> {
        within(sqlx::query!("DELETE FROM nodes").execute(&self.pool)).await.map(drop)
    }

    /// Forgets nodes whose lease ran out long ago.
    pub async fn forget_dead_nodes(&self) -> Result<u64, StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM nodes WHERE leased_until < clock_timestamp() - interval '1 hour'"
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected())
    }
}
