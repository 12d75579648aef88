//! A shard that a node owns.

use crate::domain::position::Position;

/// A shard that this node owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedShard {
    /// Which, from 0.
    pub shard: u16,
    /// Raised by each taking; named in every write.
    pub term: i64,
    /// All at or below is resolved for its subscriptions that have no cursor of their own.
    pub cursor: Position,
}
