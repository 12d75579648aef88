//! Partitions of events and attempts, made ahead of time.

use super::{Store, StoreError, within};

/// How many days ahead partitions are made, besides yesterday's and today's.
const DAYS_AHEAD: i32 = 7;

impl Store {
    /// Makes sure that events and attempts of the coming days can be stored.
    pub async fn create_partitions(&self) -> Result<(), StoreError> {
        within(
            sqlx::query!("SELECT create_partitions($1) AS made", DAYS_AHEAD).fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }
}
