//! Requests that run under an Idempotency-Key: known on this node, and to the others where there are any.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::store::idempotency::ClaimName;
use crate::store::{Store, StoreError};

/// How long it is believed that there are no other nodes, or some.
const BELIEVED: Duration = Duration::from_secs(1);

/// A tenant's key.
type TenantKey = (Arc<str>, String);

/// The keys under which requests run. What was done under a key is kept by the log and the store; this is only so that a
/// repeat which comes too early is told to wait.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    node: Uuid,
    store: Store,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<HashSet<TenantKey>>,
    /// Whether there are other nodes, and when that was looked at.
    others: Mutex<Option<(bool, Instant)>>,
    /// Claims that have ended and are still on record; no more than were put there.
    ended: Mutex<Vec<ClaimName>>,
    some_ended: Notify,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashSet<TenantKey>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Vec<ClaimName>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, Option<(bool, Instant)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a key for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    held: TenantKey,
    /// What the other nodes know it by.
    shown: Option<Uuid>,
}

impl Claims {
    pub(crate) fn start(
        node: Uuid,
        store: Store,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        tasks.spawn(let_go(store.clone(), Arc::clone(&shared), stop));
        Self { node, store, shared }
    }

    /// Claims a tenant's key; `None`: a request under it still runs, here or on another node.
    pub(crate) async fn claim(
        &self,
        tenant: &Arc<str>,
        key: &str,
    ) -> Result<Option<Claim>, StoreError> {
        let held = (Arc::clone(tenant), key.to_owned());
        if !self.shared.running().insert(held.clone()) {
            return Ok(None);
        }
        let mut claim = Claim { claims: self.clone(), held, shown: None };
        if self.has_others().await? {
            let token = Uuid::new_v4();
            claim.shown = Some(token);
            if !self.store.insert_claim(tenant, key, self.node, token).await? {
                return Ok(None);
            }
        }
        Ok(Some(claim))
    }

    async fn has_others(&self) -> Result<bool, StoreError> {
        let known = *self.shared.others();
        if let Some((others, since)) = known
            && since.elapsed() < BELIEVED
        {
            return Ok(others);
        }
        let others = self.store.has_other_nodes(self.node).await?;
        *self.shared.others() = Some((others, Instant::now()));
        Ok(others)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Self { claims, held, shown } = self;
        claims.shared.running().remove(held);
        if let Some(token) = *shown {
            let (tenant, key) = held.clone();
            claims.shared.ended().push(ClaimName { tenant, key, token });
            claims.shared.some_ended.notify_one();
        }
    }
}

/// Takes the claims that have ended off the record, until `stop`: a node's claims count for nothing after its end.
async fn let_go(store: Store, shared: Arc<Shared>, stop: CancellationToken) {
    let mut waits = reconnect_delays();
    loop {
        let ended = std::mem::take(&mut *shared.ended());
        let done = if ended.is_empty() { Ok(()) } else { store.delete_claims(&ended).await };
        let pause = match done {
            Ok(()) => {
                waits = reconnect_delays();
                None
            }
            Err(error) => {
                tracing::debug!(%error, "claims of idempotency keys are let go later");
                shared.ended().extend(ended);
                Some(waits.next().unwrap_or(BELIEVED))
            }
        };
        let next = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => shared.some_ended.notified().await,
            }
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}
