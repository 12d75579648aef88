//! Metrics of storage: retention, encryption and disk usage.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counter::Counter;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// `expired` and `last_retention` are of this node; the others describe the database that all nodes share.
#[derive(Debug, Default)]
pub(crate) struct StorageMetrics {
    /// Events that expired before a subscription received them, as reported by this node.
    pub expired: Counter,
    last_retention: AtomicI64,
    encrypted_with_old_key: Mutex<Option<i64>>,
    disk_usage: Mutex<Option<DiskUsage>>,
}

/// Sizes in bytes, indexes included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskUsage {
    pub events_bytes: i64,
    pub attempts_bytes: i64,
    pub database_bytes: i64,
    /// The oldest event that has not expired.
    pub oldest: Option<Position>,
}

impl StorageMetrics {
    pub(crate) fn set_last_retention(&self, at: UnixMillis) {
        self.last_retention.store(at.as_i64(), Ordering::Relaxed);
    }

    /// The end of this node's last retention run without an error; `None` before the first.
    pub(crate) fn last_retention(&self) -> Option<UnixMillis> {
        let at = self.last_retention.load(Ordering::Relaxed);
        (at > 0).then(|| UnixMillis::from_i64(at))
    }

    /// Values not encrypted with this node's current master key; `None` before the first count.
    pub(crate) fn encrypted_with_old_key(&self) -> MutexGuard<'_, Option<i64>> {
        self.encrypted_with_old_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` before the first measurement.
    pub(crate) fn disk_usage(&self) -> MutexGuard<'_, Option<DiskUsage>> {
        self.disk_usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
