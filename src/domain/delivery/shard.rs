//! Shards: the subscriptions are spread over a fixed number of them, and at most one node at a time owns each shard.

use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

/// The number of shards, fixed for the life of a database.
pub const SHARDS: u16 = 64;

/// Returns the number of the subscription's shard, from 0 to [`SHARDS`] - 1: the top six bits of the id times 2^64 /
/// phi.
pub fn shard_of(id: SubscriptionId) -> u16 {
    let mixed = id.stored().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    u16::try_from(mixed).unwrap_or_default() % SHARDS
}

/// A shard that this node owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedShard {
    /// Below [`SHARDS`].
    pub shard: u16,
    /// The fencing token: each new owner gets a higher one and names it in every write.
    pub term: i64,
    /// For the subscriptions without a cursor of their own, every event up to here is delivered, exhausted or has a
    /// retry.
    pub cursor: Position,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::time::UnixMillis;

    #[test]
    fn subscriptions_are_spread_over_all_shards() {
        let shards: HashSet<u16> = (0..2_000)
            .map(|n| shard_of(SubscriptionId::new(UnixMillis::from_i64(1_763_900_000_000 + n), 7)))
            .collect();
        assert_eq!(shards.len(), usize::from(SHARDS));
    }
}
