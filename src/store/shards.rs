//! Ownership of shards: holder and term. The lease is on the holder's row in `nodes`.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::delivery::shard::OwnedShard;
use crate::domain::position::Position;

fn shard_columns(shards: &[u16]) -> Vec<i16> {
    shards.iter().filter_map(|shard| i16::try_from(*shard).ok()).collect()
}

impl Store {
    /// Acquires at most `max` shards without a live owner, and increments their terms. A shard that names `node` as its
    /// owner but is not in `held`, the shards that the node has, counts as free. Returns none if none is free or the
    /// node's own lease has ended.
    pub async fn acquire_shards(
        &self,
        node: Uuid,
        held: &[u16],
        max: usize,
    ) -> Result<Vec<OwnedShard>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT taken AS "shard!", new_term AS "term!", at_cursor AS "cursor!" FROM take_shards($1, $2, $3)"#,
            node,
            &shard_columns(held),
            i32::try_from(max).unwrap_or(i32::MAX),
        ))
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

    /// Ends the ownership of all shards of a node that starts no more work.
    pub async fn release_all_shards(&self, node: Uuid) -> Result<(), StoreError> {
        self.execute(sqlx::query!("UPDATE shards SET holder = NULL WHERE holder = $1", node)).await
    }

    /// Ends the ownership of `shards`, each a shard number and its term, so that other nodes can acquire them at once.
    /// Skips shards that the node no longer owns in that term.
    pub async fn release_shards(
        &self,
        node: Uuid,
        shards: &[(u16, i64)],
    ) -> Result<(), StoreError> {
        let (shards, terms): (Vec<u16>, Vec<i64>) = shards.iter().copied().unzip();
        self.execute(sqlx::query!(
            "UPDATE shards s SET holder = NULL
             FROM unnest($2::smallint[], $3::bigint[]) r(shard, term)
             WHERE s.shard = r.shard AND s.term = r.term AND s.holder = $1",
            node,
            &shard_columns(&shards),
            &terms,
        ))
        .await
    }
}
