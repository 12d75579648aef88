//! The WAL volume of a hub's Postgres, read over its socket.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, query_scalar};

use super::BoxError;

/// One session for all queries, so that a query costs next to nothing.
pub(super) struct Wal(PgConnection);

impl Wal {
    /// Connects to the embedded Postgres of the hub with its data below `directory`.
    pub(super) async fn of(directory: &Path) -> Result<Self, BoxError> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(directory.join("data/run"))
            .username("hookhub")
            .database("hookhub");
        Ok(Self(PgConnection::connect_with(&options).await?))
    }

    /// Bytes of WAL since the cluster was created.
    pub(super) async fn written(&mut self) -> Result<f64, BoxError> {
        const WRITTEN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
        Ok(query_scalar(WRITTEN).fetch_one(&mut self.0).await?)
    }
}
