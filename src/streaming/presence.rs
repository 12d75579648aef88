//! Who is connected to this node, and how many may be.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::filter::Filter;
use crate::access::keys::Key;
use crate::access::quotas::{Quota, QuotasInForce};
use crate::domain::access::quota::ConnectionLimits;
use crate::domain::id::ConnectionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transport {
    /// Server-Sent Events.
    Sse,
    /// WebSocket.
    WebSocket,
    /// A poll that waits.
    LongPoll,
}

impl Transport {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Sse, Self::WebSocket, Self::LongPoll];

    /// The name in JSON and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
            Self::LongPoll => "long_poll",
        }
    }
}

/// Who opened a connection: what is counted together against the limits per key and address, and the tenant's quota.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// Whose events are read.
    pub tenant: Arc<str>,
    /// With which key; for a token the one that made it.
    pub key: Arc<Key>,
    /// Where from: an address, or a network that counts as one.
    pub home: IpAddr,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The node has as many as it may have.
    Node(usize),
    /// The key has as many as it may have.
    Key(usize),
    /// The tenant has as many as it may have.
    Tenant(u32),
    /// As many come from the address as may.
    Address(usize),
}

/// A connection as it stands.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its id.
    pub id: ConnectionId,
    /// How it is connected.
    pub transport: Transport,
    /// Who opened it.
    pub owner: Owner,
    filter: Mutex<Arc<Filter>>,
    position: AtomicI64,
    waiting: AtomicBool,
}

impl Entry {
    /// What it reads.
    pub(crate) fn filter(&self) -> Arc<Filter> {
        Arc::clone(&self.filter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that it wants up to here was handed to it; `head` is the end of the log.
    pub(crate) fn position(&self, head: Position) -> Position {
        if self.waiting.load(Ordering::Relaxed) {
            return head;
        }
        Position::from_stored(self.position.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Connected {
    entries: BTreeMap<ConnectionId, Arc<Entry>>,
    by_key: HashMap<Arc<str>, usize>,
    by_tenant: HashMap<Arc<str>, usize>,
    by_home: HashMap<IpAddr, usize>,
    by_transport: BTreeMap<Transport, usize>,
}

/// Everyone who is connected to this node.
#[derive(Debug)]
pub(crate) struct Presence {
    most: ConnectionLimits,
    quotas: Arc<QuotasInForce>,
    connected: Mutex<Connected>,
    refused: AtomicU64,
    sent: [AtomicU64; Transport::ALL.len()],
}

impl Presence {
    /// Nobody yet, and at most so many.
    pub(crate) fn new(most: ConnectionLimits, quotas: Arc<QuotasInForce>) -> Self {
        Self {
            most,
            quotas,
            connected: Mutex::default(),
            refused: AtomicU64::new(0),
            sent: Default::default(),
        }
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection, if there is room for it; it counts until it is dropped.
    pub(super) fn enter(
        self: &Arc<Self>,
        transport: Transport,
        owner: Owner,
        filter: Arc<Filter>,
        position: Position,
    ) -> Result<Connection, Full> {
        let quota = self.quotas.of(&owner.tenant).streams;
        let mut connected = self.connected();
        if let Some(full) = self.full(&connected, &owner, quota) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if let Full::Tenant(_) = full {
                self.quotas.refuse(Quota::Streams, &owner.tenant);
            }
            return Err(full);
        }
        let mut id = ConnectionId::new(UnixMillis::now(), rand::random());
        while connected.entries.contains_key(&id) {
            id = ConnectionId::new(UnixMillis::now(), rand::random());
        }
        *connected.by_key.entry(Arc::clone(&owner.key.name)).or_default() += 1;
        *connected.by_tenant.entry(Arc::clone(&owner.tenant)).or_default() += 1;
        *connected.by_home.entry(owner.home).or_default() += 1;
        *connected.by_transport.entry(transport).or_default() += 1;
        let entry = Arc::new(Entry {
            id,
            transport,
            owner,
            filter: Mutex::new(filter),
            position: AtomicI64::new(position.stored()),
            waiting: AtomicBool::new(false),
        });
        connected.entries.insert(id, Arc::clone(&entry));
        Ok(Connection { presence: Arc::clone(self), entry })
    }

    /// Why `owner` can have no more, if it cannot.
    fn full(&self, connected: &Connected, owner: &Owner, quota: Option<u32>) -> Option<Full> {
        let counted = |by: &HashMap<Arc<str>, usize>, whose| by.get(whose).copied();
        let of_key = counted(&connected.by_key, &owner.key.name).unwrap_or_default();
        let of_tenant = counted(&connected.by_tenant, &owner.tenant).unwrap_or_default();
        if connected.entries.len() >= self.most.in_all {
            return Some(Full::Node(self.most.in_all));
        }
        if of_key >= self.most.per_key {
            return Some(Full::Key(self.most.per_key));
        }
        let is_over = |quota: &u32| usize::try_from(*quota).is_ok_and(|quota| of_tenant >= quota);
        if let Some(quota) = quota.filter(is_over) {
            return Some(Full::Tenant(quota));
        }
        let from_home = connected.by_home.get(&owner.home).copied().unwrap_or_default();
        (from_home >= self.most.per_address).then_some(Full::Address(self.most.per_address))
    }

    fn leave(&self, entry: &Entry) {
        let mut connected = self.connected();
        connected.entries.remove(&entry.id);
        if let Some(count) = connected.by_transport.get_mut(&entry.transport) {
            *count = count.saturating_sub(1);
        }
        count_off(&mut connected.by_key, &entry.owner.key.name);
        count_off(&mut connected.by_tenant, &entry.owner.tenant);
        count_off(&mut connected.by_home, &entry.owner.home);
    }

    /// A tenant's connections above an id, oldest first.
    pub(crate) fn list(&self, tenant: &str, after: ConnectionId, limit: usize) -> Vec<Arc<Entry>> {
        let above = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let connected = self.connected();
        let entries = connected.entries.range(above).map(|(_, entry)| entry);
        entries.filter(|entry| &*entry.owner.tenant == tenant).take(limit).map(Arc::clone).collect()
    }

    /// How many a tenant has.
    pub(crate) fn count_of(&self, tenant: &str) -> usize {
        self.connected().by_tenant.get(tenant).copied().unwrap_or_default()
    }

    /// How many are connected in this way.
    pub(crate) fn count(&self, transport: Transport) -> usize {
        self.connected().by_transport.get(&transport).copied().unwrap_or_default()
    }

    /// How many events were sent in this way since the start.
    pub(crate) fn sent(&self, transport: Transport) -> u64 {
        self.sent_counter(transport).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many connections were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn sent_counter(&self, transport: Transport) -> Option<&AtomicU64> {
        Transport::ALL.iter().position(|one| *one == transport).and_then(|at| self.sent.get(at))
    }
}

/// One less.
fn count_off<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Connection {
    presence: Arc<Presence>,
    entry: Arc<Entry>,
}

impl Connection {
    pub(super) fn sent(&self, event: Position) {
        self.entry.position.store(event.stored(), Ordering::Relaxed);
        self.entry.waiting.store(false, Ordering::Relaxed);
        if let Some(count) = self.presence.sent_counter(self.entry.transport) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It has all there is.
    pub(super) fn waits(&self) {
        self.entry.waiting.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_filter(&self, filter: Arc<Filter>) {
        *self.entry.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.presence.leave(&self.entry);
    }
}
