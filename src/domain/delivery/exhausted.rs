//! A delivery that was given up.

use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use std::sync::Arc;

/// A delivery that is not tried again.
#[derive(Debug, Clone)]
pub(crate) struct Exhausted {
    /// To whom.
    pub(crate) subscription: Arc<Subscription>,
    /// Which event.
    pub(crate) position: Position,
    /// How often it was tried.
    pub(crate) attempts: u16,
    /// Whether it waits on record for a try that will not come.
    pub(crate) waited: bool,
}
