//! The retention of events and attempts.

/// Whole days (UTC) after the end of an event's day. Then the hub may delete the event, and its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At least 1.
    pub events_days: u16,
    /// From 1 to `events_days`: the hub repeats a delivery only while it has the event.
    pub attempts_days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 30, attempts_days: 14 }
    }
}
