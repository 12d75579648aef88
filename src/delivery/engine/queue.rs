//! The queue of one subscription: what it reads and what it may attempt. Its memory is bounded, whatever the backlog.

use std::sync::Arc;

use super::attempt_queue::{AttemptQueue, Ended};
use super::lanes::{MAX_READY_BYTES, READ_ON_BELOW};
use super::log_cursor::LogCursor;
use super::receiver::Receiver;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::version::Version;
use crate::domain::subscription::{Status, Subscription};
use crate::domain::time::UnixMillis;

/// The entries of one queue in the scheduler's lists, and its share of the scheduler's byte count.
#[derive(Debug, Default)]
pub(super) struct SchedulerState {
    /// The part of the scheduler's waiting bytes that belongs to this queue.
    pub(super) counted_bytes: usize,
    /// Whether the queue is listed to start an attempt.
    pub(super) is_ready: bool,
    /// Whether the queue is listed to read on.
    pub(super) is_reader: bool,
    /// The time at which the queue is listed to be looked at again.
    pub(super) wakes_at: Option<UnixMillis>,
}

/// The queue's part in the recorded cursors.
#[derive(Debug, Default)]
pub(super) struct RecordedCursor {
    /// The subscription's own cursor in the latest flush. `None`: the shard's cursor applies.
    pub(super) own: Option<Position>,
    /// The position beyond which the queue does not let the shard's cursor move. `None`: it holds nothing back.
    pub(super) holds_shard_at: Option<Position>,
}

/// A subscription as the engine holds it: what it reads, what it may attempt, and its entries in the engine's lists.
#[derive(Debug)]
pub(crate) struct SubscriptionQueue {
    pub(crate) subscription: Arc<Subscription>,
    pub(super) log: LogCursor,
    pub(super) attempts: AttemptQueue,
    pub(super) scheduled: SchedulerState,
    pub(super) recorded: RecordedCursor,
    /// Whether a change of the subscription's status is being applied.
    pub(super) is_changing: bool,
}

/// How many deliveries of a subscription wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueDepth {
    pub(crate) first_attempts: usize,
    pub(crate) retries: usize,
}

impl SubscriptionQueue {
    /// An empty queue. If the status is failing, the circuit breaker starts open.
    pub(super) fn new(subscription: Arc<Subscription>, log: LogCursor) -> Self {
        let attempts = AttemptQueue::new(Receiver::new(&subscription));
        Self {
            subscription,
            log,
            attempts,
            scheduled: SchedulerState::default(),
            recorded: RecordedCursor::default(),
            is_changing: false,
        }
    }

    /// A queue that reads the log by itself after `cursor`.
    pub(super) fn with_own_cursor(
        subscription: Arc<Subscription>,
        versions: Vec<Version>,
        cursor: Position,
    ) -> Self {
        let mut queue = Self::new(subscription, LogCursor::lagging(versions, cursor));
        queue.recorded.own = Some(cursor);
        queue
    }

    pub(super) fn id(&self) -> SubscriptionId {
        self.subscription.id
    }

    /// By the event type patterns at the event's position.
    pub(super) fn matches(&self, event: &Event) -> bool {
        self.log.matches(event, &self.subscription)
    }

    /// Replaces the subscription. Forgets the receiver's health if the URL changes, or if the subscription becomes
    /// active while the breaker is open: its owner has resumed it.
    pub(super) fn change(&mut self, subscription: Arc<Subscription>, versions: Vec<Version>) {
        let former = &self.subscription;
        let is_resumed = subscription.status == Status::Active && former.status != Status::Active;
        let is_same_receiver =
            subscription.definition.channel.has_same_receiver(&former.definition.channel);
        let receiver = &mut self.attempts.receiver;
        if !is_same_receiver || is_resumed && receiver.failing_since().is_some() {
            receiver.reset();
        }
        self.subscription = subscription;
        self.log.versions = versions;
    }

    /// Disables in memory. Returns the subscription before; `None` if its status allowed no attempts already.
    pub(super) fn halt(&mut self) -> Option<Arc<Subscription>> {
        if !self.is_delivering() {
            return None;
        }
        let former = Arc::clone(&self.subscription);
        self.subscription =
            Arc::new(Subscription { status: Status::Disabled, ..(*former).clone() });
        Some(former)
    }

    /// Adds a new event unless the subscription lags. Without capacity it begins to lag instead.
    pub(super) fn offer(&mut self, event: &Arc<Event>, has_capacity: bool) {
        let has_capacity = has_capacity && !self.attempts.waiting.is_full();
        if self.log.accept(event.position, has_capacity) {
            self.enqueue(event);
        }
    }

    fn enqueue(&mut self, event: &Arc<Event>) {
        let key = self.subscription.definition.delivery().order_key(event);
        self.attempts.waiting.push(key, event);
    }

    /// The subscription lags and is delivering, no read runs, and few events wait in memory.
    pub(super) fn wants_read(&self) -> bool {
        let waiting = &self.attempts.waiting;
        self.log.wants_read()
            && self.is_delivering()
            && waiting.ready_count() < READ_ON_BELOW
            && waiting.bytes() < MAX_READY_BYTES
            && !waiting.is_full()
    }

    /// Adds the events of a read after `after`, which covered the log up to `scanned`. Ignores an outdated read.
    pub(super) fn handle_read(
        &mut self,
        after: Position,
        events: &[Arc<Event>],
        scanned: Position,
        head: Position,
    ) {
        if !self.log.is_expecting(after) {
            self.log.cancel_read();
            return;
        }
        for event in events {
            if self.matches(event) && self.log.take_up(event.position) {
                self.enqueue(event);
            }
        }
        self.log.finish_read(scanned, head);
    }

    /// Removes the events and retries at or below `up_to`, and returns the positions of the retries. Running attempts
    /// continue.
    pub(super) fn expire(&mut self, up_to: Position) -> Vec<Position> {
        for position in self.attempts.waiting.expire(up_to) {
            self.log.finish(position);
        }
        let expired = self.attempts.retries.expire(up_to);
        for (_, retry) in &expired {
            self.attempts.release(retry.order_key);
        }
        self.log.expire(up_to);
        expired.into_iter().map(|(position, _)| position).collect()
    }

    /// Frees the attempt's slot and removes its retry. After a first attempt the event no longer holds the cursor back.
    pub(super) fn end_attempt(&mut self, position: Position) -> Ended {
        let ended = self.attempts.end_attempt(position);
        if ended.retry.is_none() {
            self.log.finish(position);
        }
        ended
    }

    /// An attempt for the event runs, or its first attempt has not ended.
    pub(super) fn is_in_progress(&self, position: Position) -> bool {
        self.attempts.retries.is_running(position) || self.log.is_unfinished(position)
    }

    /// Whether an attempt may start now: an event or a retry is ready, and no limit forbids it. Does not start it.
    pub(super) fn can_start_attempt(&mut self, now: UnixMillis) -> bool {
        self.is_delivering() && self.attempts.can_start(&self.subscription.definition, now)
    }

    /// When the rate limit or the probe interval permits an attempt. `None`: the queue does not wait for time.
    pub(super) fn ready_at(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let is_delivering = self.is_delivering();
        is_delivering.then(|| self.attempts.ready_at(&self.subscription.definition, now)).flatten()
    }

    /// The position up to which the first attempt of every event has ended. `head`: the position up to which the node
    /// has processed the log.
    pub(crate) fn cursor(&self, head: Position) -> Position {
        self.log.position(head)
    }

    /// Whether the first attempt of any event has not ended.
    pub(crate) fn holds_cursor(&self) -> bool {
        self.log.held_at().is_some()
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.log.is_lagging()
    }

    /// Whether the status is `active` or `failing`.
    pub(crate) fn is_delivering(&self) -> bool {
        self.subscription.status.is_delivering()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.attempts.waiting.bytes()
    }

    pub(crate) fn depth(&self) -> QueueDepth {
        let first_attempts = self.attempts.waiting.len();
        QueueDepth { first_attempts, retries: self.attempts.retries.len() }
    }
}
