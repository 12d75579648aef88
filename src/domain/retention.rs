//! How long events and attempts are kept.

/// Whole days (UTC) after the day of an event until it and the attempts at it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For events, from 1.
    pub events_days: u16,
    /// For attempts, from 1 to as many as for events: without its event an attempt can neither be looked up nor
    /// repeated.
    pub attempts_days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 30, attempts_days: 14 }
    }
}
