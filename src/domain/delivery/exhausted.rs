//! Exhausted deliveries.

use std::sync::Arc;

use crate::domain::position::Position;
use crate::domain::subscription::Subscription;

/// A delivery that failed and gets no further attempt, unless a client requests a retry or a replay.
#[derive(Debug, Clone)]
pub(crate) struct Exhausted {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) position: Position,
    pub(crate) attempts: u16,
    /// Whether the database has a retry row, which the next flush must delete.
    pub(crate) waited: bool,
}
