//! One key that was let in: what it may do, and whether it still may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;
use crate::store::keys::StoredKey;

/// The configured admin key where keys are named by their id.
const ADMIN: &str = "admin";
/// So often, at most, it is written when a key was used last.
const BETWEEN_WRITES: Duration = Duration::from_secs(60);

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does.
    InForce,
    /// Its time is over.
    Expired(UnixMillis),
    /// It was revoked.
    Revoked,
}

/// A key as all who were let in with it hold it: what they hold is told at once when it is revoked.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its id, or `admin` for the configured one.
    pub name: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
    /// The events that are there for it; `None`: all.
    pub event_types: Option<Arc<[Pattern]>>,
    /// Until when it is good; `None`: until it is revoked.
    pub expires_at: Option<UnixMillis>,
    revoked: AtomicBool,
    /// When it was used last, and which use was written last, in milliseconds since 1970.
    used: AtomicI64,
    written: AtomicI64,
}

impl Key {
    pub(crate) fn of(stored: StoredKey) -> Self {
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

    /// The configured admin key, of `tenant` unless it says otherwise. It is in force for as long as this process runs.
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

    /// Whether it opens anything at `now`.
    pub(crate) fn standing(&self, now: UnixMillis) -> Standing {
        match self.expires_at {
            _ if self.is_revoked() => Standing::Revoked,
            Some(end) if end <= now => Standing::Expired(end),
            _ => Standing::InForce,
        }
    }

    /// Whether it was revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Whether every event that one of `patterns` chooses is there for it.
    pub(crate) fn covers(&self, patterns: &[Pattern]) -> bool {
        patterns.iter().all(|one| self.covers_one(one))
    }

    /// Whether every event that `pattern` chooses is there for it.
    pub(crate) fn covers_one(&self, pattern: &Pattern) -> bool {
        let Some(allowed) = &self.event_types else { return true };
        allowed.iter().any(|one| one.covers(pattern))
    }

    /// Whether events of this type are there for it.
    pub(crate) fn reaches(&self, event_type: &str) -> bool {
        let Some(allowed) = &self.event_types else { return true };
        allowed.iter().any(|one| one.matches(event_type))
    }

    /// It is used.
    pub(crate) fn note_use(&self, now: UnixMillis) {
        self.used.fetch_max(now.as_i64(), Ordering::Relaxed);
    }

    /// The last use, if it is not written yet.
    pub(crate) fn unwritten(&self) -> Option<UnixMillis> {
        let used = self.used.load(Ordering::Relaxed);
        (used > self.written.load(Ordering::Relaxed)).then(|| UnixMillis::from_i64(used))
    }

    /// Whether the last use is to be written at `now`.
    pub(crate) fn is_due(&self, now: UnixMillis) -> bool {
        let written = UnixMillis::from_i64(self.written.load(Ordering::Relaxed));
        self.unwritten().is_some() && now.since(written) >= BETWEEN_WRITES
    }

    /// The use at `last` is written.
    pub(crate) fn note_written(&self, last: UnixMillis) {
        self.written.fetch_max(last.as_i64(), Ordering::Relaxed);
    }
}
