//! What a receiver notes of one POST; told from its process to the other in a line.

use std::fmt;
use std::str::FromStr;

use hookhub::domain::position::Position;

/// One POST that arrived, and whether it was taken. Times are in milliseconds since 1970, turns count all that happens
/// at the receivers in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Which callback it came to.
    pub(crate) callback: usize,
    /// The event.
    pub(crate) event: Position,
    /// What `webhook-attempt` said.
    pub(crate) attempt: u32,
    /// The turn at which the request was read.
    pub(crate) arrived: u64,
    /// The turn at which its answer was given out of hand.
    pub(crate) answered: u64,
    /// Whether it was taken: a whole 2xx answer went out, or, of a 2xx answer without an end, as much as the hub reads
    /// of any: from there on the status decides.
    pub(crate) accepted: bool,
    /// When the request was read.
    pub(crate) at_ms: i64,
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { callback, event, attempt, arrived, answered, accepted, at_ms } = self;
        write!(f, "{callback} {event} {attempt} {arrived} {answered} {accepted} {at_ms}")
    }
}

/// A line that is no arrival.
#[derive(Debug)]
pub(crate) struct NoArrival;

impl fmt::Display for NoArrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of the journal that cannot be read")
    }
}

impl std::error::Error for NoArrival {}

impl FromStr for Arrival {
    type Err = NoArrival;

    fn from_str(line: &str) -> Result<Self, NoArrival> {
        fn next<T: FromStr>(words: &mut std::str::Split<'_, char>) -> Result<T, NoArrival> {
            words.next().and_then(|word| word.parse().ok()).ok_or(NoArrival)
        }
        let words = &mut line.split(' ');
        Ok(Self {
            callback: next(words)?,
            event: next(words)?,
            attempt: next(words)?,
            arrived: next(words)?,
            answered: next(words)?,
            accepted: next(words)?,
            at_ms: next(words)?,
        })
    }
}
