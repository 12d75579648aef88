//! The retention of events and attempts.

/// Whole days (UTC) from the day of an event until the hub deletes it and its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At least 1.
    pub events_days: u16,
    /// From 1 to `events_days`: an attempt without its event can be neither looked up nor repeated.
    pub attempts_days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 30, attempts_days: 14 }
    }
}
