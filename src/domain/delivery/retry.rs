//! A delivery that failed and waits for its next attempt.

use crate::domain::time::UnixMillis;

/// A (subscription, event) pair that failed and waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts made so far.
    pub attempts: u16,
    /// When to try again.
    pub due: UnixMillis,
    /// When it was tried first.
    pub first_attempt: UnixMillis,
    /// What its event is ordered by, if it is; none of the same key is tried before it has come to its end.
    pub order_key: Option<i64>,
}
