//! The keys that a node remembers: decisions only, no I/O.

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

/// When more keys than this are remembered, those that nobody holds are forgotten.
const MANY: usize = 10_000;

#[derive(Default)]
struct State {
    by_id: HashMap<KeyId, Arc<Key>>,
    by_hash: HashMap<Hash, KeyId>,
    /// Raised by each revocation, and whenever one may have been missed.
    round: u64,
    /// Raised whenever what is remembered ceases to be believed.
    doubts: u64,
    /// Until when what is remembered is believed without looking; `None`: it is not.
    believed_until: Option<Instant>,
    /// It is never believed again.
    retired: bool,
    sweep_at: usize,
}

/// The keys that were let in, each until it is revoked. The log's tail hands every entry over before any reader sees
/// it, so nothing that comes after a revocation is handed to those who hold the key.
///
/// What is remembered is believed for as long as the node's lease is: whoever revokes a key waits for every node
/// whose lease runs.
#[derive(Default)]
pub(crate) struct Known {
    state: Mutex<State>,
    /// The newest revocation.
    revoked: watch::Sender<Position>,
    /// A lease has begun, after a time without one.
    resumed: watch::Sender<Option<Resumed>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

/// What is to be believed again once it was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed {
    pub(crate) until: Instant,
    doubts: u64,
}

/// When a look-up began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round(u64);

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with each revocation.
    pub(crate) fn revocations(&self) -> watch::Receiver<Position> {
        self.revoked.subscribe()
    }

    /// The node's lease is believed until then.
    pub(crate) fn lease_runs_until(&self, until: Instant) {
        let mut state = self.state();
        if state.retired {
            return;
        }
        if state.is_believed() {
            state.believed_until = Some(until);
            return;
        }
        // Keys may have been revoked meanwhile by nodes that did not wait for this one.
        state.doubt();
        let resumed = Resumed { until, doubts: state.doubts };
        drop(state);
        self.resumed.send_replace(Some(resumed));
    }

    /// What is remembered is not believed before the next lease.
    pub(crate) fn doubt(&self) {
        self.state().doubt();
    }

    /// The node is taken off the list: what is remembered is never believed again.
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        state.doubt();
    }

    pub(crate) fn resumptions(&self) -> watch::Receiver<Option<Resumed>> {
        self.resumed.subscribe()
    }

    /// All that are remembered.
    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.state().by_id.keys().copied().collect()
    }

    /// Of these keys only those are in force; what is remembered is believed again, unless a doubt came between.
    pub(crate) fn resume(&self, resumed: Resumed, looked_at: &[KeyId], in_force: &[KeyId]) {
        let in_force: HashSet<&KeyId> = in_force.iter().collect();
        let mut state = self.state();
        let mut missed = false;
        for id in looked_at.iter().filter(|id| !in_force.contains(id)) {
            missed |= state.revoke(*id);
        }
        if state.doubts == resumed.doubts && !state.retired {
            state.believed_until = Some(resumed.until);
        }
        drop(state);
        if missed {
            // Those who hold them are told; where the entries stand is not known here.
            self.revoked.send_modify(|_| ());
        }
    }

    /// The key with that hash, if it is remembered and that is to be believed; else when the look-up for it begins.
    pub(crate) fn by_hash(&self, hash: &Hash) -> Result<Arc<Key>, Round> {
        let state = self.state();
        let id = state.by_hash.get(hash).filter(|_| state.is_believed());
        let key = id.and_then(|id| state.by_id.get(id));
        key.map(Arc::clone).ok_or(Round(state.round))
    }

    /// The same with that id.
    pub(crate) fn by_id(&self, id: KeyId) -> Result<Arc<Key>, Round> {
        let state = self.state();
        let key = state.by_id.get(&id).filter(|_| state.is_believed());
        key.map(Arc::clone).ok_or(Round(state.round))
    }

    /// Whether what is remembered is to be believed.
    pub(crate) fn is_believed(&self) -> bool {
        self.state().is_believed()
    }

    /// Remembers what a look-up brought. `None`: a key was revoked since it began, perhaps this one; look again.
    pub(crate) fn remember(
        &self,
        begun: Round,
        stored: StoredKey,
        hash: Option<&Hash>,
    ) -> Option<Arc<Key>> {
        let mut state = self.state();
        if state.round != begun.0 {
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

    /// All that are remembered, with their ids.
    pub(crate) fn all(&self) -> Vec<(KeyId, Arc<Key>)> {
        self.state().by_id.iter().map(|(id, key)| (*id, Arc::clone(key))).collect()
    }
}

impl LogObserver for Known {
    /// Forgets a key before any reader on this node sees the entry that revokes it.
    fn handle_entry(&self, entry: &Event) {
        if let Some(id) = Revocation::of(entry) {
            self.state().revoke(id);
            tracing::info!(key = %id, "a key is revoked; everything opened with it ends");
            self.revoked.send_replace(entry.position);
        }
    }

    fn handle_history_lost(&self) {
        self.doubt();
    }
}

impl State {
    fn is_believed(&self) -> bool {
        self.believed_until.is_some_and(|until| Instant::now() < until)
    }

    fn doubt(&mut self) {
        self.believed_until = None;
        self.round += 1;
        self.doubts += 1;
    }

    /// Whether the key was remembered.
    fn revoke(&mut self, id: KeyId) -> bool {
        self.round += 1;
        let Some(key) = self.by_id.remove(&id) else { return false };
        key.revoke();
        self.by_hash.retain(|_, known| *known != id);
        true
    }

    /// Forgets those that nobody holds and whose last use is written, when there are many.
    fn sweep(&mut self) {
        if self.by_id.len() < self.sweep_at.max(MANY) {
            return;
        }
        self.by_id.retain(|_, key| Arc::strong_count(key) > 1 || key.unwritten().is_some());
        let by_id = &self.by_id;
        self.by_hash.retain(|_, id| by_id.contains_key(id));
        self.sweep_at = self.by_id.len() * 2;
    }
}
