//! The shards a node owns: since which term, how much runs for each, and which are being handed over.

use std::collections::HashMap;

use crate::domain::delivery::shard::OwnedShard;
use crate::domain::time::UnixMillis;

#[derive(Debug)]
struct Held {
    term: i64,
    running: usize,
    /// It is being handed over: nothing is begun for it, and at this time it is let go whatever still runs.
    leaves_by: Option<UnixMillis>,
}

/// The shards a node owns.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    shards: HashMap<u16, Held>,
}

impl Ownership {
    /// Owns one more.
    pub(crate) fn add(&mut self, shard: &OwnedShard) {
        let held = Held { term: shard.term, running: 0, leaves_by: None };
        self.shards.insert(shard.shard, held);
    }

    /// Owns one less.
    pub(crate) fn remove(&mut self, shard: u16) {
        self.shards.remove(&shard);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<u16> {
        self.shards.keys().copied().collect()
    }

    /// Those that are not being handed over.
    pub(crate) fn staying(&self) -> Vec<u16> {
        let staying = self.shards.iter().filter(|(_, held)| held.leaves_by.is_none());
        staying.map(|(shard, _)| *shard).collect()
    }

    /// Whether it is owned.
    pub(crate) fn has(&self, shard: u16) -> bool {
        self.shards.contains_key(&shard)
    }

    /// The term in which it is owned, if it is.
    pub(crate) fn term(&self, shard: u16) -> Option<i64> {
        self.shards.get(&shard).map(|held| held.term)
    }

    /// Whether something may be begun for it.
    pub(crate) fn may_begin(&self, shard: u16) -> bool {
        self.shards.get(&shard).is_some_and(|held| held.leaves_by.is_none())
    }

    /// Something begins for it; the term in which it does.
    pub(crate) fn begin(&mut self, shard: u16) -> Option<i64> {
        let held = self.shards.get_mut(&shard)?;
        held.running += 1;
        Some(held.term)
    }

    /// Something that began in `term` has ended; whether the shard has been owned all the while.
    pub(crate) fn end(&mut self, shard: u16, term: i64) -> bool {
        let Some(held) = self.shards.get_mut(&shard).filter(|held| held.term == term) else {
            return false;
        };
        held.running = held.running.saturating_sub(1);
        true
    }

    /// Begins to hand it over, by `deadline` at the latest.
    pub(crate) fn hand_over(&mut self, shard: u16, deadline: UnixMillis) {
        if let Some(held) = self.shards.get_mut(&shard) {
            held.leaves_by = Some(deadline);
        }
    }

    /// Whether any is being handed over.
    pub(crate) fn is_handing_over(&self) -> bool {
        self.shards.values().any(|held| held.leaves_by.is_some())
    }

    /// Those that are handed over and can be let go, with their terms: nothing runs for them any more, or it is time.
    pub(crate) fn quiet(&self, now: UnixMillis) -> Vec<(u16, i64)> {
        let quiet = |held: &Held| held.leaves_by.is_some_and(|by| held.running == 0 || by <= now);
        let shards = self.shards.iter().filter(|(_, held)| quiet(held));
        shards.map(|(shard, held)| (*shard, held.term)).collect()
    }

    /// When a shard is let go at the latest, if any is handed over.
    pub(crate) fn next_deadline(&self) -> Option<UnixMillis> {
        self.shards.values().filter_map(|held| held.leaves_by).min()
    }
}
