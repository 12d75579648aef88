//! A bounded read of the log, and its result.

use std::sync::Arc;

use super::Event;
use crate::domain::position::Position;

/// The range of a read, and its limits.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Exclusive lower bound.
    pub after: Position,
    /// Inclusive upper bound.
    pub up_to: Position,
    /// Only this tenant's events.
    pub tenant: Option<&'a str>,
    pub limit: PageLimit,
}

/// The size of one read.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// How many events to examine, of all tenants.
    pub events: u16,
    /// How many bytes of data to return. The first event is returned whatever its size.
    pub bytes: u32,
}

/// A range of the log as it was read.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The selected events, in reading order.
    pub events: Vec<Arc<Event>>,
    /// The last examined position, or where reading began.
    pub scanned: Position,
    /// Whether the range holds no further events.
    pub complete: bool,
}
