//! Builds what the driver records in one transaction: results, and the cursors as far as these results let them move.

use super::Engine;
use super::cursors::FlushContext;
use crate::domain::delivery::flush::Flush;
use crate::domain::time::UnixMillis;

impl Engine {
    /// The number of results that the next flush records: attempts, retries and replays. Those of a flush that is under
    /// way are not counted.
    pub(crate) fn result_count(&self) -> usize {
        self.results.len()
    }

    /// Whether any result waits for a flush.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Returns all results and cursors to record in one transaction. `None`: nothing to record. `is_idle`: also record
    /// the shards whose cursor has moved without results.
    pub(crate) fn poll_flush(&mut self, now: UnixMillis, is_idle: bool) -> Option<Flush> {
        let context = FlushContext { head: self.head(), now, is_idle };
        let changes = self.cursors.advance(&mut self.queues, self.results.shards(), context);
        (!changes.shards.is_empty()).then(|| self.results.take(changes))
    }
}
