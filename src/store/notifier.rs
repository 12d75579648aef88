//! Notifications between nodes that the log has grown (Postgres' NOTIFY).

use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::{Store, StoreError, within};

const CHANNEL: &str = "hookhub_log";

/// Receives the notifications of other nodes, on its own connection.
#[derive(Debug)]
pub struct Listener {
    listener: PgListener,
    node: String,
}

impl Listener {
    /// Waits for a notification of another node. After an error the connection is broken, and notifications may be
    /// lost.
    pub async fn notified(&mut self) -> Result<(), StoreError> {
        loop {
            if self.listener.recv().await?.payload() != self.node {
                return Ok(());
            }
        }
    }
}

impl Store {
    /// Notifies the other nodes that `node` has appended to the log.
    pub async fn notify(&self, node: Uuid) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "SELECT pg_notify($1, $2) AS notified",
            CHANNEL,
            node.as_simple().to_string()
        ))
        .await
    }

    /// Opens a connection that receives the notifications of all nodes. The listener ignores those of `node`.
    pub async fn listen(&self, node: Uuid) -> Result<Listener, StoreError> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            // A lost connection must be an error: the caller then reads what it missed.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let (listener, node) = (within(listening).await?, node.as_simple().to_string());
        Ok(Listener { listener, node })
    }

    /// Returns whether any node other than `node` has a lease that has not ended.
    pub async fn has_other_nodes(&self, node: Uuid) -> Result<bool, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM nodes WHERE id <> $1 AND leased_until >= clock_timestamp()) AS "others!""#,
            node
        ))
        .await
    }
}
