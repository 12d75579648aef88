//! One API key in use: its permissions and its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;
use crate::store::keys::StoredKey;

/// The name of the configured admin key, in place of an id.
const ADMIN: &str = "admin";
/// The minimum time between two writes of a key's last use.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyStatus {
    Active,
    /// Since this time.
    Expired(UnixMillis),
    Revoked,
}

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
            used: AtomicI64::new(0),
            written: AtomicI64::new(0),
        }
    }

    /// The status at `now`. A key that is both revoked and expired is reported as revoked.
    pub(crate) fn status(&self, now: UnixMillis) -> KeyStatus {
        match self.expires_at {
            _ if self.is_revoked() => KeyStatus::Revoked,
            Some(end) if end <= now => KeyStatus::Expired(end),
            _ => KeyStatus::Active,
        }
    }

    /// Returns whether the key is known to be revoked on this node. Expiry does not count.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
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
