//! Lists of the subscriptions that can start an attempt or read the log, now or at a known time.

use std::collections::{BTreeSet, VecDeque};

use super::queue::SubscriptionQueue;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// With this many bytes of waiting events in all queues, a queue that matches a new event begins to lag, and no lagging
/// queue reads on.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// Removes the smallest element if it satisfies `predicate`.
pub(super) fn pop_first_if<T: Copy + Ord>(
    set: &mut BTreeSet<T>,
    predicate: impl FnOnce(&T) -> bool,
) -> Option<T> {
    let first = set.first().copied().filter(predicate)?;
    set.remove(&first);
    Some(first)
}

/// The subscriptions that can act, and when.
///
/// Invariant: after each change of a queue its owner calls [`Self::reschedule`]. Then the queue is in every list that
/// applies. An entry of a list may be outdated: the caller that takes it out checks again.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// Queues that can start an attempt, each once.
    pub(super) ready: VecDeque<SubscriptionId>,
    /// Queues that want to read on, each once.
    readers: VecDeque<SubscriptionId>,
    /// Queues that can start an attempt only at a later time.
    wakes: BTreeSet<(UnixMillis, SubscriptionId)>,
    /// Retries that are not due yet.
    retries: BTreeSet<(UnixMillis, SubscriptionId, Position)>,
    waiting_bytes: usize,
}

impl Scheduler {
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether the waiting events use less than [`MAX_WAITING_BYTES`].
    pub(super) fn has_capacity(&self) -> bool {
        self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Must follow each change of the queue. `is_active`: the node owns the shard and is not handing it over; otherwise
    /// no entry is added.
    pub(super) fn reschedule(
        &mut self,
        queue: &mut SubscriptionQueue,
        is_active: bool,
        now: UnixMillis,
    ) {
        if is_active {
            self.list(queue, now);
        }
        let bytes = queue.waiting_bytes();
        self.waiting_bytes = self.waiting_bytes + bytes - queue.scheduled.counted_bytes;
        queue.scheduled.counted_bytes = bytes;
    }

    /// Adds the queue to the lists of what it can do at `now`: read on, and start an attempt or else wait for a time.
    /// Does not add it twice to `readers` or `ready`.
    fn list(&mut self, queue: &mut SubscriptionQueue, now: UnixMillis) {
        let id = queue.id();
        if !queue.scheduled.is_reader && queue.wants_read() {
            queue.scheduled.is_reader = true;
            self.readers.push_back(id);
        }
        if queue.scheduled.is_ready {
            return;
        }
        if queue.can_start_attempt(now) {
            queue.scheduled.is_ready = true;
            self.ready.push_back(id);
        } else if let Some(at) = queue.ready_at(now)
            && queue.scheduled.wakes_at.is_none_or(|wakes_at| at < wakes_at)
        {
            queue.scheduled.wakes_at = Some(at);
            self.wakes.insert((at, id));
        }
    }

    /// The id may stay in `ready` and `readers`, whose caller then finds no queue for it.
    pub(super) fn remove(&mut self, queue: &SubscriptionQueue) {
        let id = queue.id();
        self.waiting_bytes -= queue.scheduled.counted_bytes;
        if let Some(at) = queue.scheduled.wakes_at {
            self.wakes.remove(&(at, id));
        }
        for (position, retry) in queue.attempts.retries.iter() {
            self.retries.remove(&(retry.due, id, position));
        }
    }

    pub(super) fn add_retry(&mut self, due: UnixMillis, id: SubscriptionId, position: Position) {
        self.retries.insert((due, id, position));
    }

    /// A queue that may be able to start an attempt at `now`.
    pub(super) fn pop_wake(&mut self, now: UnixMillis) -> Option<SubscriptionId> {
        pop_first_if(&mut self.wakes, |(at, _)| *at <= now).map(|(_, id)| id)
    }

    /// The earliest retry that is due at `now`, with its due time.
    pub(super) fn pop_retry(
        &mut self,
        now: UnixMillis,
    ) -> Option<(UnixMillis, SubscriptionId, Position)> {
        pop_first_if(&mut self.retries, |(due, ..)| *due <= now)
    }

    /// `None`: no queue needs a read, or the node's queues have no capacity.
    pub(super) fn pop_reader(&mut self) -> Option<SubscriptionId> {
        if self.has_capacity() { self.readers.pop_front() } else { None }
    }

    /// The earliest retry or wake. `None`: nothing waits for a time.
    pub(super) fn next_timeout(&self) -> Option<UnixMillis> {
        let retry = self.retries.first().map(|(due, ..)| *due);
        let wake = self.wakes.first().map(|(at, _)| *at);
        retry.into_iter().chain(wake).min()
    }
}
