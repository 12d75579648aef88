//! The record that a receiver keeps of one delivery attempt, and its text form between the two processes.

use std::fmt;
use std::str::FromStr;

use hookhub::domain::position::Position;

/// One POST that a receiver read.
///
/// `received_seq` and `responded_seq` come from one counter that all receivers share: they order everything that
/// happens at the receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptRecord {
    /// Index in [`WEBHOOKS`](super::topology::WEBHOOKS).
    pub(crate) webhook: usize,
    pub(crate) event: Position,
    /// Value of the header `webhook-attempt`; 0 without it.
    pub(crate) attempt: u32,
    /// Sequence number taken when the request had been read.
    pub(crate) received_seq: u64,
    /// Sequence number taken just before the response was written.
    pub(crate) responded_seq: u64,
    /// Whether the hub must count the attempt as delivered: a whole 2xx response was written, or, of an endless 2xx
    /// body, as much as the hub reads of any body.
    pub(crate) accepted: bool,
    /// When the request was read, in milliseconds since 1970.
    pub(crate) received_ms: i64,
}

impl fmt::Display for AttemptRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { webhook, event, attempt, received_seq, responded_seq, accepted, received_ms } =
            self;
        write!(
            f,
            "{webhook} {event} {attempt} {received_seq} {responded_seq} {accepted} {received_ms}"
        )
    }
}

/// A line that does not parse as an [`AttemptRecord`].
#[derive(Debug)]
pub(crate) struct InvalidRecord;

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid attempt record in the receivers' journal")
    }
}

impl std::error::Error for InvalidRecord {}

impl FromStr for AttemptRecord {
    type Err = InvalidRecord;

    fn from_str(line: &str) -> Result<Self, InvalidRecord> {
        fn next<T: FromStr>(words: &mut std::str::Split<'_, char>) -> Result<T, InvalidRecord> {
            words.next().and_then(|word| word.parse().ok()).ok_or(InvalidRecord)
        }
        let words = &mut line.split(' ');
        Ok(Self {
            webhook: next(words)?,
            event: next(words)?,
            attempt: next(words)?,
            received_seq: next(words)?,
            responded_seq: next(words)?,
            accepted: next(words)?,
            received_ms: next(words)?,
        })
    }
}
