//! The cache of API keys. It decides only; it does no I/O.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::Hash;
use super::key::Key;
use crate::domain::access::revocation::Revocation;
use crate::domain::event::Event;
use crate::domain::id::KeyId;
use crate::domain::position::Position;
use crate::log::LogObserver;
use crate::store::keys::StoredKey;

/// How many keys the cache may hold before it evicts those that no client uses.
const MIN_SWEEP_SIZE: usize = 10_000;

#[derive(Default)]
struct CacheState {
    by_id: HashMap<KeyId, Arc<Key>>,
    by_hash: HashMap<Hash, KeyId>,
    /// Incremented by each revocation, and whenever one may have been missed.
    generation: u64,
    /// Incremented whenever the cache is invalidated.
    invalidations: u64,
    /// Until when the cache is used without asking the database; `None` while it is invalid.
    trusted_until: Option<Instant>,
    /// The node is stopping: the cache is never trusted again.
    has_stopped: bool,
    /// The size at which the next sweep runs.
    sweep_at: usize,
}

/// The keys that clients of this node use, each until it is revoked.
///
/// The cache observes the log: it removes a key before any reader on this node sees the entry that revokes it. So no
/// event after the revocation reaches a client with that key.
///
/// The cache is trusted only while the node's lease is. A revocation waits for every node whose lease runs, so a node
/// without one may have missed it.
#[derive(Default)]
pub(crate) struct KeyCache {
    state: Mutex<CacheState>,
    /// The position of the newest revocation.
    revoked: watch::Sender<Position>,
    /// A lease started after a time without one.
    resumed: watch::Sender<Option<LeaseResumption>>,
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCache")
    }
}

/// A new lease. The cache is trusted until its end once all cached keys are checked against the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseResumption {
    pub(crate) until: Instant,
    invalidations: u64,
}

/// The cache's generation when a look-up began. A result is cached only if no key was revoked since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookupGeneration(u64);

impl KeyCache {
    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with each revocation, after the key itself is marked as revoked.
    pub(crate) fn revocations(&self) -> watch::Receiver<Position> {
        self.revoked.subscribe()
    }

    /// Extends the trust in the cache to the end of a renewed lease.
    pub(crate) fn lease_runs_until(&self, until: Instant) {
        let mut state = self.state();
        if state.has_stopped {
            return;
        }
        if state.is_trusted() {
            state.trusted_until = Some(until);
            return;
        }
        // Nodes that did not wait for this one may have revoked keys meanwhile.
        state.invalidate();
        let resumption = LeaseResumption { until, invalidations: state.invalidations };
        drop(state);
        self.resumed.send_replace(Some(resumption));
    }

    /// Stops trusting the cache until the next lease.
    pub(crate) fn invalidate(&self) {
        self.state().invalidate();
    }

    /// Stops trusting the cache for good. Called before the node leaves the list that revocations wait for.
    pub(crate) fn stop_trusting(&self) {
        let mut state = self.state();
        state.has_stopped = true;
        state.invalidate();
    }

    pub(crate) fn resumptions(&self) -> watch::Receiver<Option<LeaseResumption>> {
        self.resumed.subscribe()
    }

    /// The ids of all cached keys.
    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.state().by_id.keys().copied().collect()
    }

    /// Ends the check of a new lease: of the `checked` keys only the `unrevoked` ones stay. The cache is trusted again,
    /// unless it was invalidated since.
    pub(crate) fn resume(
        &self,
        resumption: LeaseResumption,
        checked: &[KeyId],
        unrevoked: &[KeyId],
    ) {
        let unrevoked: HashSet<&KeyId> = unrevoked.iter().collect();
        let mut state = self.state();
        let mut missed = false;
        for id in checked.iter().filter(|id| !unrevoked.contains(id)) {
            missed |= state.revoke(*id);
        }
        if state.invalidations == resumption.invalidations && !state.has_stopped {
            state.trusted_until = Some(resumption.until);
        }
        drop(state);
        if missed {
            // Wakes the clients with these keys; the positions of the revocations are unknown here.
            self.revoked.send_modify(|_| ());
        }
    }

    /// The cached key with this hash, if the cache is trusted; else the generation for a look-up.
    pub(crate) fn by_hash(&self, hash: &Hash) -> Result<Arc<Key>, LookupGeneration> {
        let state = self.state();
        let id = state.by_hash.get(hash).filter(|_| state.is_trusted());
        let key = id.and_then(|id| state.by_id.get(id));
        key.map(Arc::clone).ok_or(LookupGeneration(state.generation))
    }

    /// The cached key with this id, if the cache is trusted; else the generation for a look-up.
    pub(crate) fn by_id(&self, id: KeyId) -> Result<Arc<Key>, LookupGeneration> {
        let state = self.state();
        let key = state.by_id.get(&id).filter(|_| state.is_trusted());
        key.map(Arc::clone).ok_or(LookupGeneration(state.generation))
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.state().is_trusted()
    }

    /// Caches the result of a look-up. `None` if any key was revoked since `begun`, perhaps this one: repeat the look-up.
    pub(crate) fn insert(
        &self,
        begun: LookupGeneration,
        stored: StoredKey,
        hash: Option<&Hash>,
    ) -> Option<Arc<Key>> {
        let mut state = self.state();
        if state.generation != begun.0 {
            return None;
        }
        let (id, revoked) = (stored.id, stored.revoked);
        if revoked {
            return Some(Arc::new(Key::of(stored)));
        }
        state.sweep();
        let key = state.by_id.entry(id).or_insert_with(|| Arc::new(Key::of(stored)));
        let key = Arc::clone(key);
        if let Some(hash) = hash {
            state.by_hash.insert(*hash, id);
        }
        Some(key)
    }

    pub(crate) fn all(&self) -> Vec<(KeyId, Arc<Key>)> {
        self.state().by_id.iter().map(|(id, key)| (*id, Arc::clone(key))).collect()
    }
}

impl LogObserver for KeyCache {
    /// Forgets a key before any reader on this node sees the entry that revokes it.
    fn handle_entry(&self, entry: &Event) {
        if let Some(id) = Revocation::revoked_key(entry) {
            self.state().revoke(id);
            tracing::info!(key = %id, "a key is revoked; everything opened with it ends");
            self.revoked.send_replace(entry.position);
        }
    }

    fn handle_history_lost(&self) {
        self.invalidate();
    }
}

impl CacheState {
    fn is_trusted(&self) -> bool {
        self.trusted_until.is_some_and(|until| Instant::now() < until)
    }

    fn invalidate(&mut self) {
        self.trusted_until = None;
        self.generation += 1;
        self.invalidations += 1;
    }

    /// Removes a key; returns whether it was cached.
    fn revoke(&mut self, id: KeyId) -> bool {
        self.generation += 1;
        let Some(key) = self.by_id.remove(&id) else { return false };
        key.revoke();
        self.by_hash.retain(|_, cached| *cached != id);
        true
    }

    /// Evicts keys that no client uses and whose last use is written, if the cache is large.
    fn sweep(&mut self) {
        if self.by_id.len() < self.sweep_at.max(MIN_SWEEP_SIZE) {
            return;
        }
        self.by_id.retain(|_, key| Arc::strong_count(key) > 1 || key.unwritten().is_some());
        let by_id = &self.by_id;
        self.by_hash.retain(|_, id| by_id.contains_key(id));
        self.sweep_at = self.by_id.len() * 2;
    }
}
