//! The shards that a node owns: in which term, how much runs for each, and which are being handed over.

use std::collections::BTreeMap;

use crate::domain::delivery::shard::OwnedShard;
use crate::domain::time::UnixMillis;

#[derive(Debug)]
struct Shard {
    term: i64,
    /// Attempts that run, events being fetched included.
    running: usize,
    /// The deadline of a handover: the shard starts nothing, and is released at this time whatever still runs.
    released_by: Option<UnixMillis>,
}

#[derive(Debug, Default)]
pub(super) struct Ownership {
    shards: BTreeMap<u16, Shard>,
}

impl Ownership {
    pub(super) fn add(&mut self, owned: &OwnedShard) {
        let shard = Shard { term: owned.term, running: 0, released_by: None };
        self.shards.insert(owned.shard, shard);
    }

    pub(super) fn remove(&mut self, shard: u16) {
        self.shards.remove(&shard);
    }

    /// Shards being handed over are included.
    pub(super) fn all(&self) -> Vec<u16> {
        self.shards.keys().copied().collect()
    }

    /// The shards that are not being handed over.
    pub(super) fn retained(&self) -> Vec<u16> {
        let retained = self.shards.iter().filter(|(_, shard)| shard.released_by.is_none());
        retained.map(|(number, _)| *number).collect()
    }

    /// Shards being handed over are included.
    pub(super) fn has(&self, shard: u16) -> bool {
        self.shards.contains_key(&shard)
    }

    /// The fencing token. `None`: the node does not own the shard.
    pub(super) fn term(&self, shard: u16) -> Option<i64> {
        self.shards.get(&shard).map(|shard| shard.term)
    }

    /// Whether the node owns the shard and is not handing it over.
    pub(super) fn is_active(&self, shard: u16) -> bool {
        self.shards.get(&shard).is_some_and(|shard| shard.released_by.is_none())
    }

    /// Counts a started attempt, and returns the term that its result must carry. `None`: the shard is not owned.
    pub(super) fn start(&mut self, shard: u16) -> Option<i64> {
        let shard = self.shards.get_mut(&shard)?;
        shard.running += 1;
        Some(shard.term)
    }

    /// Reverts one [`Self::start`]. `false`, without a change, if the node no longer owns the shard in this `term`.
    pub(super) fn end(&mut self, shard: u16, term: i64) -> bool {
        let Some(shard) = self.shards.get_mut(&shard).filter(|shard| shard.term == term) else {
            return false;
        };
        shard.running = shard.running.saturating_sub(1);
        true
    }

    /// Stops new work. At `deadline`, the shard may be released even if attempts still run.
    pub(super) fn begin_handover(&mut self, shard: u16, deadline: UnixMillis) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.released_by = Some(deadline);
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.shards.values().any(|shard| shard.released_by.is_some())
    }

    /// Shards with their terms whose handover is complete: no attempt runs, or the deadline has passed.
    pub(super) fn releasable(&self, now: UnixMillis) -> Vec<(u16, i64)> {
        let is_releasable =
            |shard: &Shard| shard.released_by.is_some_and(|by| shard.running == 0 || by <= now);
        let shards = self.shards.iter().filter(|(_, shard)| is_releasable(shard));
        shards.map(|(number, shard)| (*number, shard.term)).collect()
    }

    /// The earliest deadline of a handover. `None`: no shard is being handed over.
    pub(super) fn next_deadline(&self) -> Option<UnixMillis> {
        self.shards.values().filter_map(|shard| shard.released_by).min()
    }
}
