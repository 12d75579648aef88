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
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use crate::domain::encryption::Encryptor;

/// How long any statement may take, network included.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait for a connection before the database counts as away.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(3);
/// Connections for everything but the appends, which have one of their own.
const POOL_SIZE: u32 = 8;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or does not answer in time; it may come back.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database refused a statement: a fault of the hub or of the schema.
    #[error("the database refused: {0}")]
    Refused(sqlx::Error),
    /// What is stored cannot be read: a fault of the hub, or of somebody who changed the tables by hand.
    #[error("what is stored cannot be read: {0}")]
    Unreadable(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(refusal) if is_passing(refusal.code().as_deref()) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Refused(error),
        }
    }
}

/// `SQLSTATE`s that tell of the server's state, not of the statement: connection trouble, too few resources (a full
/// disk too), operator intervention, a lock not had in time.
fn is_passing(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        ["08", "53", "57", "58", "55P03", "40", "25006"].iter().any(|class| code.starts_with(class))
    })
}

/// A pool of connections to the hub's database. `Debug` shows nothing of them, for there is a password in it.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    /// For the lease alone: however many ask for something, it is renewed.
    vital: PgPool,
    options: PgConnectOptions,
    sealer: Arc<Encryptor>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(…)")
    }
}

impl Store {
    /// Prepares to use the database at `url`, without connecting yet; what is secret in it is sealed by `sealer`.
    pub fn new(url: &str, sealer: Encryptor) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?.application_name("hookhub").options([
            ("statement_timeout", "15s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let pool_of = |most| {
            let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_DEADLINE);
            pool.connect_lazy_with(options.clone())
        };
        let (pool, vital) = (pool_of(POOL_SIZE), pool_of(1));
        Ok(Self { pool, vital, options, sealer: Arc::new(sealer) })
    }

    /// Brings the schema to this version; several nodes may start at once, one of them does the work.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let options =
            self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        // Not by the pool, which would only say that no connection was had in time, and not why.
        let mut connection = connect(&options).await?;
        let done = sqlx::migrate!().run(&mut connection).await;
        connection.close().await?;
        done.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => error.into(),
            other => StoreError::Unreadable(format!("migrations: {other}")),
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        within(sqlx::query!("SELECT 1 AS one").fetch_one(&self.pool)).await.map(drop)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
        self.vital.close().await;
    }
}

/// A connection besides those of the pool.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    tokio::time::timeout(ACQUIRE_DEADLINE, PgConnection::connect_with(options))
        .await
        .map_err(|_elapsed| StoreError::Unavailable("no connection in time".into()))?
        .map_err(StoreError::from)
}

/// Puts the deadline to a statement.
async fn within<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(STATEMENT_DEADLINE, statement).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_elapsed) => {
            Err(StoreError::Unavailable(format!("no answer within {STATEMENT_DEADLINE:?}")))
        }
    }
}
