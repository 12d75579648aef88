//! The hub's Postgres: all SQL is in this folder, one function per statement.

pub mod audit;
pub mod deliveries;
pub mod disk_usage;
pub mod encryption;
pub mod expiry;
pub mod idempotency;
pub mod keys;
pub mod log;
pub mod nodes;
pub mod notifier;
pub mod partitions;
pub mod pull;
pub mod reencryption;
pub mod replays;
pub mod shards;
pub mod shared_secrets;
pub mod subscriptions;
pub mod tenants;
pub mod verifications;

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::FromRow;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, Postgres,
};
use sqlx::query::{Map, Query, QueryScalar};

use crate::domain::encryption::Encryptor;

/// How long a statement may take, including the wait for a connection of the pool and the network.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait for a connection before the database counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections of the pool. Appends, lease renewals, the listener and the locks of maintenance have their own.
const POOL_SIZE: u32 = 8;

/// A statement that sqlx has checked; `F` reads a row.
type CheckedQuery<'q, F> = Map<'q, Postgres, F, PgArguments>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or a statement timed out. A retry may succeed.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database rejected a statement: a fault of the hub or of the schema.
    #[error("the database rejected a statement: {0}")]
    Refused(sqlx::Error),
    /// Stored data cannot be read: a fault of the hub, or of a manual change of the tables.
    #[error("stored data cannot be read: {0}")]
    Unreadable(String),
}

impl From<sqlx::Error> for StoreError {
    /// `Unavailable` if a later attempt may succeed, such as after a lost connection, else `Refused`.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(refusal) if is_transient(refusal.code().as_deref()) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Refused(error),
        }
    }
}

/// Whether an SQLSTATE reports a temporary state of the server, such as a connection failure, a full disk, a shutdown,
/// a deadlock, a lock timeout, or a standby that is not promoted yet.
fn is_transient(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        ["08", "53", "57", "58", "55P03", "40", "25006"].iter().any(|class| code.starts_with(class))
    })
}

/// The connections to the hub's database. `Debug` hides the options, which contain a password.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    /// For lease renewals only: they never wait for other statements.
    lease_pool: PgPool,
    options: PgConnectOptions,
    encryptor: Arc<Encryptor>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(…)")
    }
}

impl Store {
    /// Opens no connection yet. Fails if `url` is invalid. `encryptor` encrypts the secrets that are stored.
    pub fn new(url: &str, encryptor: Encryptor) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?.application_name("hookhub").options([
            ("statement_timeout", "15s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let pool_of = |size| {
            let pool = PgPoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE_TIMEOUT);
            pool.connect_lazy_with(options.clone())
        };
        let (pool, lease_pool) = (pool_of(POOL_SIZE), pool_of(1));
        Ok(Self { pool, lease_pool, options, encryptor: Arc::new(encryptor) })
    }

    /// Migrates the schema. If several nodes call this at once, one of them migrates and the others wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let options =
            self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        // Not from the pool, which would report a timeout instead of the cause.
        let mut connection = connect(&options).await?;
        let done = sqlx::migrate!().run(&mut connection).await;
        connection.close().await?;
        done.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => error.into(),
            other => StoreError::Unreadable(format!("migrations: {other}")),
        })
    }

    /// Runs a trivial query to check that the database responds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.fetch_one(sqlx::query!("SELECT 1 AS one")).await.map(drop)
    }

    /// Closes the pools once the running statements have ended. Later ones fail with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        self.pool.close().await;
        self.lease_pool.close().await;
    }
}

/// Statements on the pool, each with [`STATEMENT_TIMEOUT`].
impl Store {
    /// Runs a statement whose rows and count of rows do not matter.
    async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<(), StoreError> {
        self.count_affected(query).await.map(drop)
    }

    /// Runs a statement and ignores the rows that it returns. Returns the number of rows affected.
    async fn count_affected(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, StoreError> {
        within(query.execute(&self.pool)).await.map(|done| done.rows_affected())
    }

    /// Runs a query and returns its first row. Fails if there is none.
    async fn fetch_one<T: Send + Unpin>(
        &self,
        query: CheckedQuery<'_, impl FnMut(PgRow) -> Result<T, sqlx::Error> + Send>,
    ) -> Result<T, StoreError> {
        within(query.fetch_one(&self.pool)).await
    }

    /// Runs a query and returns its first row; `None` if there is none.
    async fn fetch_optional<T: Send + Unpin>(
        &self,
        query: CheckedQuery<'_, impl FnMut(PgRow) -> Result<T, sqlx::Error> + Send>,
    ) -> Result<Option<T>, StoreError> {
        within(query.fetch_optional(&self.pool)).await
    }

    async fn fetch_all<T: Send + Unpin>(
        &self,
        query: CheckedQuery<'_, impl FnMut(PgRow) -> Result<T, sqlx::Error> + Send>,
    ) -> Result<Vec<T>, StoreError> {
        within(query.fetch_all(&self.pool)).await
    }

    /// Runs a query of one column and returns the value of its first row. Fails if there is no row.
    async fn fetch_scalar<T: Send + Unpin>(
        &self,
        query: QueryScalar<'_, Postgres, T, PgArguments>,
    ) -> Result<T, StoreError>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        within(query.fetch_one(&self.pool)).await
    }

    /// Runs a query of one column and returns the value of its first row; `None` if there is no row.
    async fn fetch_optional_scalar<T: Send + Unpin>(
        &self,
        query: QueryScalar<'_, Postgres, T, PgArguments>,
    ) -> Result<Option<T>, StoreError>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        within(query.fetch_optional(&self.pool)).await
    }

    /// Runs a query of one column and returns the values of all its rows.
    async fn fetch_scalars<T: Send + Unpin>(
        &self,
        query: QueryScalar<'_, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        within(query.fetch_all(&self.pool)).await
    }
}

/// Opens a database connection that no pool manages. Fails with [`StoreError::Unavailable`] after [`ACQUIRE_TIMEOUT`].
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(options))
        .await
        .map_err(|_elapsed| StoreError::Unavailable("connecting timed out".into()))?
        .map_err(StoreError::from)
}

/// Runs a statement. Fails with [`StoreError::Unavailable`] after [`STATEMENT_TIMEOUT`].
async fn within<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_elapsed) => {
            Err(StoreError::Unavailable(format!("no response within {STATEMENT_TIMEOUT:?}")))
        }
    }
}
