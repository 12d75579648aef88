//! The disk space of the database, and the connections of this node's pool.

use super::{POOL_SIZE, Store, StoreError};

/// Bytes on disk, indexes included.
#[derive(Debug, Clone, Copy)]
pub struct DiskUsage {
    pub events: i64,
    pub attempts: i64,
    pub database: i64,
}

#[derive(Debug, Clone, Copy)]
pub struct PoolUsage {
    pub busy: u32,
    pub idle: u32,
    pub max: u32,
}

impl Store {
    /// Selects the sizes of the event partitions, of the attempt partitions and of the whole database, in bytes.
    pub async fn select_disk_usage(&self) -> Result<DiskUsage, StoreError> {
        self.fetch_one(sqlx::query_as!(
            DiskUsage,
            r#"SELECT coalesce(sum(size) FILTER (WHERE parent = 'events'), 0)::bigint AS "events!",
                      coalesce(sum(size) FILTER (WHERE parent = 'attempts'), 0)::bigint AS "attempts!",
                      pg_database_size(current_database()) AS "database!"
               FROM (
                   SELECT i.inhparent::regclass::text AS parent, pg_total_relation_size(i.inhrelid) AS size
                   FROM pg_inherits i WHERE i.inhparent IN ('events'::regclass, 'attempts'::regclass)
               ) partitions"#
        ))
        .await
    }

    pub fn pool_usage(&self) -> PoolUsage {
        let (open, idle) = (self.pool.size(), self.pool.num_idle());
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        PoolUsage { busy: open.saturating_sub(idle), idle, max: POOL_SIZE }
    }
}
