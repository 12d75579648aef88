//! Builds what the driver records in one transaction: results, and the cursors as far as these results let them move.

use super::Engine;
use super::cursors::FlushContext;
use crate::domain::delivery::flush::Flush;
use crate::domain::time::UnixMillis;

impl Engine {
    /// How many results wait for a flush.
    pub(crate) fn unrecorded(&self) -> usize {
        self.results.len()
    }

    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Takes everything that one transaction has to record. `is_idle`: shards whose cursor has moved without results are
    /// included.
    pub(crate) fn poll_flush(&mut self, now: UnixMillis, is_idle: bool) -> Option<Flush> {
        let context = FlushContext { head: self.head(), now, is_idle };
        let changes = self.cursors.advance(&mut self.queues, self.results.shards(), context);
        (!changes.shards.is_empty()).then(|| self.results.take(changes))
    }
}
