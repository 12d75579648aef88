//! The open streams and waiting polls of this node, and their limits.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strum::{IntoStaticStr, VariantArray};

use super::filter::Filter;
use crate::access::keys::Key;
use crate::access::quotas::{Quota, TenantQuotas};
use crate::domain::access::quota::StreamLimits;
use crate::domain::id::ConnectionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Transport {
    Sse,
    #[strum(serialize = "websocket")]
    WebSocket,
    /// A poll that waits for events.
    LongPoll,
}

impl Transport {
    /// As in JSON and metrics.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// The identity that the limits per key, tenant and address count by.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionOwner {
    pub tenant: Arc<str>,
    /// The API key; for a stream token, the key that issued it.
    pub key: Arc<Key>,
    /// The client's IPv4 address or IPv6 /64.
    pub network: IpAddr,
}

/// The limit that a new connection would exceed, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamLimitReached {
    Node(usize),
    Key(usize),
    Tenant(u32),
    Address(usize),
}

/// An open connection as operators see it.
#[derive(Debug)]
pub(crate) struct ConnectionEntry {
    pub id: ConnectionId,
    pub transport: Transport,
    pub owner: ConnectionOwner,
    filter: Mutex<Arc<Filter>>,
    position: AtomicI64,
    waiting: AtomicBool,
}

impl ConnectionEntry {
    /// A WebSocket client can change its filter.
    pub(crate) fn filter(&self) -> Arc<Filter> {
        Arc::clone(&self.filter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The client has all matching events up to here: `head` if it waits for new events, else the last one sent, or the
    /// start.
    pub(crate) fn position(&self, head: Position) -> Position {
        if self.waiting.load(Ordering::Relaxed) {
            return head;
        }
        Position::from_stored(self.position.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Connected {
    entries: BTreeMap<ConnectionId, Arc<ConnectionEntry>>,
    by_key: HashMap<Arc<str>, usize>,
    by_tenant: HashMap<Arc<str>, usize>,
    by_network: HashMap<IpAddr, usize>,
    by_transport: BTreeMap<Transport, usize>,
}

/// All open connections of this node.
#[derive(Debug)]
pub(crate) struct Presence {
    limits: StreamLimits,
    quotas: Arc<TenantQuotas>,
    connected: Mutex<Connected>,
    refused: AtomicU64,
    sent: [AtomicU64; Transport::VARIANTS.len()],
}

impl Presence {
    pub(crate) fn new(limits: StreamLimits, quotas: Arc<TenantQuotas>) -> Self {
        Self {
            limits,
            quotas,
            connected: Mutex::default(),
            refused: AtomicU64::new(0),
            sent: Default::default(),
        }
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an open connection whose client has all events up to `position`. The connection counts against the
    /// limits until the guard is dropped.
    ///
    /// Fails if the node, the key, the tenant or the client's network has reached its limit; the refusal is counted for
    /// the metrics.
    pub(super) fn add_connection(
        self: &Arc<Self>,
        transport: Transport,
        owner: ConnectionOwner,
        filter: Arc<Filter>,
        position: Position,
    ) -> Result<ConnectionGuard, StreamLimitReached> {
        let quota = self.quotas.quotas_of(&owner.tenant).streams;
        let mut connected = self.connected();
        if let Some(limit) = self.limit_reached(&connected, &owner, quota) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if let StreamLimitReached::Tenant(_) = limit {
                self.quotas.count_rejection(Quota::Streams, &owner.tenant);
            }
            return Err(limit);
        }
        let mut id = ConnectionId::new(UnixMillis::now(), rand::random());
        while connected.entries.contains_key(&id) {
            id = ConnectionId::new(UnixMillis::now(), rand::random());
        }
        *connected.by_key.entry(Arc::clone(&owner.key.name)).or_default() += 1;
        *connected.by_tenant.entry(Arc::clone(&owner.tenant)).or_default() += 1;
        *connected.by_network.entry(owner.network).or_default() += 1;
        *connected.by_transport.entry(transport).or_default() += 1;
        let entry = Arc::new(ConnectionEntry {
            id,
            transport,
            owner,
            filter: Mutex::new(filter),
            position: AtomicI64::new(position.stored()),
            waiting: AtomicBool::new(false),
        });
        connected.entries.insert(id, Arc::clone(&entry));
        Ok(ConnectionGuard { presence: Arc::clone(self), entry })
    }

    /// `quota`: the tenant's limit; `None` if unlimited.
    fn limit_reached(
        &self,
        connected: &Connected,
        owner: &ConnectionOwner,
        quota: Option<u32>,
    ) -> Option<StreamLimitReached> {
        let of_key = connected.by_key.get(&owner.key.name).copied().unwrap_or_default();
        let of_tenant = connected.by_tenant.get(&owner.tenant).copied().unwrap_or_default();
        if connected.entries.len() >= self.limits.per_node {
            return Some(StreamLimitReached::Node(self.limits.per_node));
        }
        if of_key >= self.limits.per_key {
            return Some(StreamLimitReached::Key(self.limits.per_key));
        }
        let is_over = |quota: &u32| usize::try_from(*quota).is_ok_and(|quota| of_tenant >= quota);
        if let Some(quota) = quota.filter(is_over) {
            return Some(StreamLimitReached::Tenant(quota));
        }
        let from_network = connected.by_network.get(&owner.network).copied().unwrap_or_default();
        (from_network >= self.limits.per_address)
            .then_some(StreamLimitReached::Address(self.limits.per_address))
    }

    fn remove_connection(&self, entry: &ConnectionEntry) {
        let mut connected = self.connected();
        connected.entries.remove(&entry.id);
        if let Some(count) = connected.by_transport.get_mut(&entry.transport) {
            *count = count.saturating_sub(1);
        }
        decrement(&mut connected.by_key, &entry.owner.key.name);
        decrement(&mut connected.by_tenant, &entry.owner.tenant);
        decrement(&mut connected.by_network, &entry.owner.network);
    }

    /// Connections of a tenant on this node with ids above `after`, in ascending order.
    pub(crate) fn list(
        &self,
        tenant: &str,
        after: ConnectionId,
        limit: usize,
    ) -> Vec<Arc<ConnectionEntry>> {
        let above = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let connected = self.connected();
        let entries = connected.entries.range(above).map(|(_, entry)| entry);
        entries.filter(|entry| &*entry.owner.tenant == tenant).take(limit).map(Arc::clone).collect()
    }

    /// On this node; 0 for an unknown tenant.
    pub(crate) fn count_of_tenant(&self, tenant: &str) -> usize {
        self.connected().by_tenant.get(tenant).copied().unwrap_or_default()
    }

    pub(crate) fn count_of_transport(&self, transport: Transport) -> usize {
        self.connected().by_transport.get(&transport).copied().unwrap_or_default()
    }

    /// Since the node started.
    pub(crate) fn events_sent(&self, transport: Transport) -> u64 {
        self.sent_counter(transport).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// By any limit, since the node started.
    pub(crate) fn connections_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the counter of the events sent over this transport. It is `Some` for every transport.
    fn sent_counter(&self, transport: Transport) -> Option<&AtomicU64> {
        Transport::VARIANTS
            .iter()
            .position(|one| *one == transport)
            .and_then(|at| self.sent.get(at))
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    presence: Arc<Presence>,
    entry: Arc<ConnectionEntry>,
}

impl ConnectionGuard {
    /// Also counts the event for the metrics.
    pub(super) fn record_sent(&self, event: Position) {
        self.entry.position.store(event.stored(), Ordering::Relaxed);
        self.entry.waiting.store(false, Ordering::Relaxed);
        if let Some(count) = self.presence.sent_counter(self.entry.transport) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client has received all matching events and waits for new ones.
    pub(super) fn set_waiting(&self) {
        self.entry.waiting.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_filter(&self, filter: Arc<Filter>) {
        *self.entry.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.presence.remove_connection(&self.entry);
    }
}
