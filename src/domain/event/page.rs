//! A bounded read of the log, and what it brought.

use super::Event;
use crate::domain::position::Position;
use std::sync::Arc;

/// What to read, and how much at most.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Everything read is above this.
    pub after: Position,
    /// And at or below this.
    pub up_to: Position,
    /// Only this tenant's events.
    pub tenant: Option<&'a str>,
    /// How many events of the log to look at, whosever they are.
    pub events: u16,
    /// How many bytes of data to bring; one event is brought however large.
    pub bytes: u32,
}

/// A stretch of the log.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// What was wanted of it, in reading order.
    pub events: Vec<Arc<Event>>,
    /// The last event looked at, or where reading began.
    pub scanned: Position,
    /// Whether there was nothing more to look at within the bounds.
    pub complete: bool,
}
