//! Reads of the log for subscriptions that lag.

use std::sync::Arc;

use super::{Engine, ReadRange};
use crate::domain::event::page::Stretch;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::command::Command;

impl Engine {
    /// The next read for a lagging subscription. `None`: none needs a read, or the node's queues have no capacity.
    pub(crate) fn poll_read(&mut self) -> Option<ReadRange> {
        let up_to = self.head();
        while let Some(id) = self.scheduler.pop_reader() {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.scheduled.is_reader = false;
            if queue.wants_read() {
                let subscription = Arc::clone(&queue.subscription);
                return Some(ReadRange { subscription, after: queue.log.start_read(), up_to });
            }
        }
        None
    }

    /// Adds the matching events, and carries out the commands in the part of the log that the node processed before it
    /// owned the shard. Ignores the events of an outdated read.
    pub(crate) fn handle_read(&mut self, read: &ReadRange, stretch: &Stretch) {
        let scanned =
            if stretch.complete { read.up_to.max(stretch.scanned) } else { stretch.scanned };
        let (id, head) = (read.subscription.id, self.head());
        self.with_queue(id, |queue| queue.handle_read(read.after, &stretch.events, scanned, head));
        for event in stretch.events.iter().filter(|event| event.about == Some(id)) {
            let queue = self.queues.get(&id);
            let is_missed = queue.is_some_and(|queue| queue.log.is_missed(event.position));
            if let Some(command) = Command::from_event(event).filter(|_| is_missed) {
                self.handle_command(id, &command, self.now);
            }
        }
    }

    pub(crate) fn handle_read_error(&mut self, id: SubscriptionId) {
        self.with_queue(id, |queue| queue.log.cancel_read());
    }
}
