//! The doorbell between nodes: a hint that the log has grown (Postgres' NOTIFY). Reading is what counts.

use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::{Store, StoreError, within};

const CHANNEL: &str = "hookhub_log";

/// Hears the rings of other nodes, on a connection of its own.
#[derive(Debug)]
pub struct Ear {
    listener: PgListener,
    node: String,
}

impl Ear {
    /// Waits until another node has rung.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        loop {
            if self.listener.recv().await?.payload() != self.node {
                return Ok(());
            }
        }
    }
}

impl Store {
    /// Tells the other nodes that `node` has appended to the log.
    pub async fn ring(&self, node: Uuid) -> Result<(), StoreError> {
        within(
            sqlx::query!("SELECT pg_notify($1, $2) AS rung", CHANNEL, node.as_simple().to_string())
                .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Begins to listen for `node`.
    pub async fn listen(&self, node: Uuid) -> Result<Ear, StoreError> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            // A lost connection is an error here, so that what was missed meanwhile is read.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let (listener, node) = (within(listening).await?, node.as_simple().to_string());
        Ok(Ear { listener, node })
    }

    /// Whether nodes besides `node` are alive.
    pub async fn has_other_nodes(&self, node: Uuid) -> Result<bool, StoreError> {
        within(
            sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM nodes WHERE id <> $1 AND leased_until >= clock_timestamp()) AS "others!""#,
                node
            )
            .fetch_one(&self.pool),
        )
        .await
    }
}
