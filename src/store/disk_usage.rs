//! What the hub takes of its database: disk, connections.

use super::{POOL_SIZE, Store, StoreError, within};

/// Bytes on disk, indexes included.
#[derive(Debug, Clone, Copy)]
pub struct DiskUse {
    /// Of the events.
    pub events: i64,
    /// Of the attempts.
    pub attempts: i64,
    /// Of the whole database.
    pub database: i64,
}

/// The connections of the pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    /// In use.
    pub busy: u32,
    /// Open and free.
    pub idle: u32,
    /// How many there may be.
    pub most: u32,
}

impl Store {
    /// What the tables take on disk.
    pub async fn select_disk_usage(&self) -> Result<DiskUse, StoreError> {
        within(
            sqlx::query_as!(
                DiskUse,
                r#"SELECT coalesce(sum(size) FILTER (WHERE parent = 'events'), 0)::bigint AS "events!",
                          coalesce(sum(size) FILTER (WHERE parent = 'attempts'), 0)::bigint AS "attempts!",
                          pg_database_size(current_database()) AS "database!"
                   FROM (
                       SELECT i.inhparent::regclass::text AS parent, pg_total_relation_size(i.inhrelid) AS size
                       FROM pg_inherits i WHERE i.inhparent IN ('events'::regclass, 'attempts'::regclass)
                   ) partitions"#
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// How much of the pool is in use.
    pub fn pool_usage(&self) -> PoolUse {
        let (open, idle) = (self.pool.size(), self.pool.num_idle());
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        PoolUse { busy: open.saturating_sub(idle), idle, most: POOL_SIZE }
    }
}
