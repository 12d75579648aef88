//! What goes on record, and how far the cursors go with it.

use super::Engine;
use crate::domain::delivery::flush::Flush;
use crate::domain::time::UnixMillis;

impl Engine {
    /// How many results wait to be recorded.
    pub(crate) fn unrecorded(&self) -> usize {
        self.results.len()
    }

    /// Whether there is anything to record.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Takes what is to be recorded in one commit: results, and the cursors as they stand with them. `idle`: the
    /// cursors of shards without results too.
    pub(crate) fn poll_flush(&mut self, now: UnixMillis, idle: bool) -> Option<Flush> {
        let holding: Vec<_> = self.holding.iter().copied().collect();
        let queues: Vec<_> = holding.iter().filter_map(|id| self.queues.get(id)).collect();
        let flush = self.results.take(&queues, self.head(), now, idle);
        for (id, row) in flush.iter().flat_map(|flush| &flush.cursors) {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.own_row = *row;
                self.touch(*id);
            }
        }
        flush
    }
}
