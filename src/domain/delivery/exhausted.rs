//! An exhausted delivery: the hub makes no further attempt.

use std::sync::Arc;

use crate::domain::position::Position;
use crate::domain::subscription::Subscription;

/// A delivery that failed and gets no further attempt.
#[derive(Debug, Clone)]
pub(crate) struct Exhausted {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) position: Position,
    pub(crate) attempts: u16,
    /// Whether a retry is recorded that must be removed.
    pub(crate) waited: bool,
}
