//! One API key in use: its permissions and its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;
use crate::store::keys::StoredKey;

/// The name of the configured admin key, in place of an id.
const ADMIN: &str = "admin";
/// The minimum time between two writes of a key's last use.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// Why a key is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    #[error("this key is revoked")]
    Revoked,
    #[error("this key expired at {0}")]
    Expired(UnixMillis),
}

/// A request or command in progress that may change something. A revocation of its key waits until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Operation(
    #[expect(dead_code, reason = "held only to be counted")] TaskTrackerToken,
);

/// A key that requests and streams share: a revocation takes effect for all of them at once.
#[derive(Debug)]
pub(crate) struct Key {
    /// The id, or `admin` for the configured admin key.
    pub name: Arc<str>,
    pub tenant: Arc<str>,
    pub scopes: Scopes,
    /// Patterns of the events it may access; `None`: all.
    pub event_types: Option<Arc<[Pattern]>>,
    /// `None`: valid until it is revoked.
    pub expires_at: Option<UnixMillis>,
    revoked: AtomicBool,
    operations: TaskTracker,
    /// The last use, and the last use written to the database, in milliseconds since 1970.
    used: AtomicI64,
    written: AtomicI64,
}

impl Key {
    pub(crate) fn from_stored(stored: StoredKey) -> Self {
        Self {
            name: stored.id.to_string().into(),
            tenant: stored.tenant.into(),
            scopes: stored.scopes,
            event_types: stored.event_types,
            expires_at: stored.expires_at,
            revoked: AtomicBool::new(stored.revoked),
            operations: TaskTracker::new(),
            used: AtomicI64::new(0),
            written: AtomicI64::new(stored.last_used_at.map_or(0, UnixMillis::as_i64)),
        }
    }

    /// The admin key that the operator configured. `tenant` is the tenant of requests that name none.
    pub(crate) fn configured(tenant: &str) -> Self {
        Self {
            name: ADMIN.into(),
            tenant: tenant.into(),
            scopes: [Scope::Admin].into_iter().collect(),
            event_types: None,
            expires_at: None,
            revoked: AtomicBool::new(false),
            operations: TaskTracker::new(),
            used: AtomicI64::new(0),
            written: AtomicI64::new(0),
        }
    }

    /// Checks that the key is neither revoked nor expired at `now`. A key that is both is reported as revoked.
    pub(crate) fn require_valid(&self, now: UnixMillis) -> Result<(), InvalidKey> {
        match self.expires_at {
            _ if self.is_revoked() => Err(InvalidKey::Revoked),
            Some(end) if end <= now => Err(InvalidKey::Expired(end)),
            _ => Ok(()),
        }
    }

    /// Returns whether the key is known to be revoked on this node. Expiry does not count.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Refuses every later operation. Those in progress continue: see [`Self::operations_ended`].
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.operations.close();
    }

    /// Begins an operation, unless the key is revoked or expired at `now`.
    ///
    /// This counts the operation and then checks the key; [`Self::revoke`] marks the key and then reads the count. So an
    /// operation sees the revocation, or the revocation waits for it.
    pub(crate) fn begin_operation(&self, now: UnixMillis) -> Result<Operation, InvalidKey> {
        let operation = Operation(self.operations.token());
        fence(Ordering::Acquire);
        self.require_valid(now)?;
        Ok(operation)
    }

    /// Waits until no operation of the revoked key is in progress. Never returns for a key that is not revoked.
    pub(crate) async fn operations_ended(&self) {
        self.operations.wait().await;
    }

    /// Whether no operation is in progress. Stays true only for a revoked key.
    pub(crate) fn is_idle(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether the key's event types include every event that `patterns` can match. True for an empty slice.
    pub(crate) fn covers(&self, patterns: &[Pattern]) -> bool {
        patterns.iter().all(|one| self.covers_one(one))
    }

    pub(crate) fn covers_one(&self, pattern: &Pattern) -> bool {
        let Some(allowed) = &self.event_types else { return true };
        allowed.iter().any(|one| one.covers(pattern))
    }

    /// Returns whether the event types of the key include `event_type`.
    pub(crate) fn reaches(&self, event_type: &str) -> bool {
        let Some(allowed) = &self.event_types else { return true };
        allowed.iter().any(|one| one.matches(event_type))
    }

    /// Records the use in memory; [`uses::write`](super::uses::write) writes it to the database.
    pub(crate) fn record_use(&self, now: UnixMillis) {
        self.used.fetch_max(now.as_i64(), Ordering::Relaxed);
    }

    /// Returns the time of the last use; `None` if that time is already in the database.
    pub(crate) fn unwritten_use(&self) -> Option<UnixMillis> {
        let used = self.used.load(Ordering::Relaxed);
        (used > self.written.load(Ordering::Relaxed)).then(|| UnixMillis::from_i64(used))
    }

    /// Returns whether the last use should be written to the database at `now`: at most once per [`WRITE_INTERVAL`].
    pub(crate) fn is_write_due(&self, now: UnixMillis) -> bool {
        let written = UnixMillis::from_i64(self.written.load(Ordering::Relaxed));
        self.unwritten_use().is_some() && now.since(written) >= WRITE_INTERVAL
    }

    pub(crate) fn record_written(&self, last: UnixMillis) {
        self.written.fetch_max(last.as_i64(), Ordering::Relaxed);
    }
}
