//! Claims of idempotency keys: the requests that run now, as this node knows them, and other nodes if there are any.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::store::idempotency::StoredClaim;
use crate::store::{Store, StoreError};

/// How long the answer to "are there other nodes?" is reused.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

type TenantKey = (Arc<str>, String);

/// The idempotency keys of requests that run now, whose repeats are rejected meanwhile. Correctness does not depend on
/// claims: the stored response decides which request was the first.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    node: Uuid,
    store: Store,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<HashSet<TenantKey>>,
    /// Whether other nodes are alive, and when that was read; `None` before the first read.
    others: Mutex<Option<(bool, Instant)>>,
    /// Claims that ended and are still stored.
    ended: Mutex<Vec<StoredClaim>>,
    claim_ended: Notify,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashSet<TenantKey>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Vec<StoredClaim>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, Option<(bool, Instant)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds an idempotency key until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    key: TenantKey,
    /// The token of its row in the database, if other nodes must see the claim.
    token: Option<Uuid>,
}

impl Claims {
    /// Starts with no claimed key. Until `stop`, a task deletes the database rows of ended claims.
    pub(crate) fn start(
        node: Uuid,
        store: Store,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        tasks.spawn(delete_ended(store.clone(), Arc::clone(&shared), stop));
        Self { node, store, shared }
    }

    /// Claims a tenant's key until the [`Claim`] is dropped. `None` while a request with it runs on a live node. A node
    /// that started within [`TRUSTED_FOR`] may be missed.
    pub(crate) async fn claim(
        &self,
        tenant: &Arc<str>,
        key: &str,
    ) -> Result<Option<Claim>, StoreError> {
        let tenant_key = (Arc::clone(tenant), key.to_owned());
        if !self.shared.running().insert(tenant_key.clone()) {
            return Ok(None);
        }
        let mut claim = Claim { claims: self.clone(), key: tenant_key, token: None };
        if self.has_others().await? {
            let token = Uuid::new_v4();
            claim.token = Some(token);
            if !self.store.insert_claim(tenant, key, self.node, token).await? {
                return Ok(None);
            }
        }
        Ok(Some(claim))
    }

    /// Whether other nodes are alive. Reads the database only if the last answer is older than [`TRUSTED_FOR`].
    async fn has_others(&self) -> Result<bool, StoreError> {
        let known = *self.shared.others();
        if let Some((others, since)) = known
            && since.elapsed() < TRUSTED_FOR
        {
            return Ok(others);
        }
        let others = self.store.has_other_nodes(self.node).await?;
        *self.shared.others() = Some((others, Instant::now()));
        Ok(others)
    }
}

impl Drop for Claim {
    /// Ends the claim at once on this node; the task of [`Claims::start`] deletes the claim's row.
    fn drop(&mut self) {
        let Self { claims, key, token } = self;
        claims.shared.running().remove(key);
        if let Some(token) = *token {
            let (tenant, key) = key.clone();
            claims.shared.ended().push(StoredClaim { tenant, key, token });
            claims.shared.claim_ended.notify_one();
        }
    }
}

/// Deletes the rows of ended claims until `stop`. A row that remains has no effect once this node is dead.
async fn delete_ended(store: Store, shared: Arc<Shared>, stop: CancellationToken) {
    let mut waits = reconnect_delays();
    loop {
        let ended = std::mem::take(&mut *shared.ended());
        let deleted = if ended.is_empty() { Ok(()) } else { store.delete_claims(&ended).await };
        let pause = match deleted {
            Ok(()) => {
                waits = reconnect_delays();
                None
            }
            Err(error) => {
                tracing::debug!(%error, "cannot delete ended idempotency claims; they are deleted later");
                shared.ended().extend(ended);
                Some(waits.next().unwrap_or(TRUSTED_FOR))
            }
        };
        let next = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => shared.claim_ended.notified().await,
            }
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}
