//! Builds what the driver records in one transaction: results, and the cursors as far as these results let them move.

use super::Engine;
use super::cursors::FlushContext;
use crate::domain::delivery::flush::Flush;
use crate::domain::time::UnixMillis;

impl Engine {
    /// The results of a flush in flight are not included.
    pub(crate) fn result_count(&self) -> usize {
        self.results.len()
    }

    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Takes what to record in one transaction; `None` for nothing. `is_idle`: also shards' cursors that moved without
    /// results.
    pub(crate) fn poll_flush(&mut self, now: UnixMillis, is_idle: bool) -> Option<Flush> {
        let context = FlushContext { head: self.head(), now, is_idle };
        let changes = self.cursors.advance(&mut self.queues, self.results.shards(), context);
        (!changes.shards.is_empty()).then(|| self.results.take(changes))
    }
}
