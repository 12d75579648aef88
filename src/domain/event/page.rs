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
    /// Selects only this tenant's events; `None`: those of all tenants.
    pub tenant: Option<&'a str>,
    pub limit: PageLimit,
}

/// The size of one read.
#[derive(Debug, Clone, Copy)]
pub struct PageLimit {
    /// How many events to examine, of all tenants.
    pub events: u16,
    /// How many bytes of data to return. The first examined event is returned whatever its size, so each read advances.
    pub bytes: u32,
}

/// A range of the log as it was read.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The selected events, in reading order.
    pub events: Vec<Arc<Event>>,
    /// Where the next read continues: the position of the last event read, of any tenant, or where reading began.
    pub scanned: Position,
    /// Whether the range has no further events; false if it may have some.
    pub complete: bool,
}
