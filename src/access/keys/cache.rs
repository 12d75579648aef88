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
    /// Revoked keys that may have operations in progress, each with the position of its revocation, or the start of the
    /// log if that is not known.
    ending: Vec<(Position, Arc<Key>)>,
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

/// The keys that clients of this node use, each until it is revoked. As an observer of the log, it removes a key before
/// any reader on this node sees the entry that revokes it.
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
    /// Writes only the name of the type, so that no log contains keys.
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

    /// Wakes after each revocation, when the key is already marked. The value is the newest revocation's position.
    pub(crate) fn revocations(&self) -> watch::Receiver<Position> {
        self.revoked.subscribe()
    }

    /// Trusts a trusted cache until `until`, the end of the node's lease. Otherwise sends a [`LeaseResumption`], so
    /// that the keys are checked first. Does nothing after [`Self::stop_trusting`].
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

    /// Waits until no operation is in progress under a key that was revoked at or below `position`.
    pub(crate) async fn operations_ended(&self, position: Position) {
        let ending = self.state().ending_up_to(position);
        for key in ending {
            key.operations_ended().await;
        }
    }

    /// The highest position up to `read` at or below which no revoked key has an operation in progress. `read`: the
    /// position up to which this node has read the log.
    pub(crate) fn enforced_up_to(&self, read: Position) -> Position {
        let mut state = self.state();
        state.ending.retain(|(_, key)| !key.is_idle());
        let oldest = state.ending.iter().map(|(position, _)| position.previous()).min();
        oldest.map_or(read, |oldest| oldest.min(read))
    }

    /// Makes the cache untrusted until the node's next lease renewal, after which all cached keys are checked again.
    pub(crate) fn invalidate(&self) {
        self.state().invalidate();
    }

    /// Makes every later look-up read the database. Called when the node stops, before it deletes its row in the table
    /// of nodes: from then on, a revocation does not wait for it.
    pub(crate) fn stop_trusting(&self) {
        let mut state = self.state();
        state.has_stopped = true;
        state.invalidate();
    }

    /// The new leases. The receiver checks all cached keys in the database and passes the result to [`Self::resume`].
    pub(crate) fn resumptions(&self) -> watch::Receiver<Option<LeaseResumption>> {
        self.resumed.subscribe()
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.state().by_id.keys().copied().collect()
    }

    /// Completes the check of the cached keys at a new lease: removes the `checked` keys that are not in `unrevoked`.
    /// Trusts the cache again until the lease ends, unless it was invalidated during the check.
    pub(crate) fn resume(
        &self,
        resumption: LeaseResumption,
        checked: &[KeyId],
        unrevoked: &[KeyId],
    ) {
        let unrevoked: HashSet<&KeyId> = unrevoked.iter().collect();
        let mut state = self.state();
        let was_ending = state.ending.len();
        for id in checked.iter().filter(|id| !unrevoked.contains(id)) {
            state.revoke(*id, Position::START);
        }
        if state.invalidations == resumption.invalidations && !state.has_stopped {
            state.trusted_until = Some(resumption.until);
        }
        let has_missed = state.ending.len() > was_ending;
        drop(state);
        if has_missed {
            // Wakes the clients with these keys; the positions of the revocations are unknown here.
            self.revoked.send_modify(|_| ());
        }
    }

    /// Finds a key by its SHA-256 hash. `Err` if it is not cached or the cache is not trusted: for [`Self::insert`]
    /// after a look-up in the database.
    pub(crate) fn by_hash(&self, hash: &Hash) -> Result<Arc<Key>, LookupGeneration> {
        let state = self.state();
        let id = state.by_hash.get(hash).filter(|_| state.is_trusted());
        let key = id.and_then(|id| state.by_id.get(id));
        key.map(Arc::clone).ok_or(LookupGeneration(state.generation))
    }

    pub(crate) fn by_id(&self, id: KeyId) -> Result<Arc<Key>, LookupGeneration> {
        let state = self.state();
        let key = state.by_id.get(&id).filter(|_| state.is_trusted());
        key.map(Arc::clone).ok_or(LookupGeneration(state.generation))
    }

    /// False once the node's lease has ended, or while a revocation can have been missed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.state().is_trusted()
    }

    /// Caches a key that was looked up in the database since `begun`. `None` if any key was revoked meanwhile: look it
    /// up again. A revoked key is returned but not cached.
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
            return Some(Arc::new(Key::from_stored(stored)));
        }
        state.sweep();
        let key = state.by_id.entry(id).or_insert_with(|| Arc::new(Key::from_stored(stored)));
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
    /// Removes a key that the entry revokes from the cache, before any reader on this node sees the entry.
    fn handle_entry(&self, entry: &Event) {
        if let Some(id) = Revocation::revoked_key(entry) {
            self.state().revoke(id, entry.position);
            tracing::info!(key = %id, "a key is revoked; everything opened with it ends");
            self.revoked.send_replace(entry.position);
        }
    }

    /// Stops trusting the cache: revocations may be among the entries that were missed.
    fn handle_history_lost(&self) {
        self.invalidate();
    }
}

impl CacheState {
    /// False once the node's lease has ended, or while a revocation can have been missed.
    fn is_trusted(&self) -> bool {
        self.trusted_until.is_some_and(|until| Instant::now() < until)
    }

    /// Makes the cache untrusted and starts a new generation, so that look-ups that run now are repeated.
    fn invalidate(&mut self) {
        self.trusted_until = None;
        self.generation += 1;
        self.invalidations += 1;
    }

    /// Removes a key that was revoked at `position`, if it is cached, and marks it as revoked for all who share it.
    fn revoke(&mut self, id: KeyId, position: Position) {
        self.generation += 1;
        let Some(key) = self.by_id.remove(&id) else { return };
        key.revoke();
        self.by_hash.retain(|_, cached| *cached != id);
        self.ending.push((position, key));
    }

    /// The keys that were revoked at or below `position` and have operations in progress. Forgets idle ones.
    fn ending_up_to(&mut self, position: Position) -> Vec<Arc<Key>> {
        self.ending.retain(|(_, key)| !key.is_idle());
        let revoked = self.ending.iter().filter(|(revoked, _)| *revoked <= position);
        revoked.map(|(_, key)| Arc::clone(key)).collect()
    }

    /// Removes unused keys, except those whose last use is not written yet. Does nothing while the cache is small.
    fn sweep(&mut self) {
        if self.by_id.len() < self.sweep_at.max(MIN_SWEEP_SIZE) {
            return;
        }
        self.by_id.retain(|_, key| Arc::strong_count(key) > 1 || key.unwritten_use().is_some());
        let by_id = &self.by_id;
        self.by_hash.retain(|_, id| by_id.contains_key(id));
        self.sweep_at = self.by_id.len() * 2;
    }
}
