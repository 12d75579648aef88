//! Everything that the engine holds of one subscription. Its memory is bounded, whatever the backlog.

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

/// The entries of one queue in the lists of the scheduler.
#[derive(Debug, Default)]
pub(super) struct SchedulerState {
    /// The part of the scheduler's waiting bytes that belongs to this queue.
    pub(super) counted_bytes: usize,
    /// Whether the queue is listed to start an attempt.
    pub(super) is_ready: bool,
    /// Whether the queue is listed to read on.
    pub(super) is_reader: bool,
    pub(super) wakes_at: Option<UnixMillis>,
}

/// How the recorded cursors cover one queue.
#[derive(Debug, Default)]
pub(super) struct RecordedCursor {
    /// The subscription's own cursor, as the latest flush recorded it. `None`: the shard's cursor covers it.
    pub(super) own: Option<Position>,
    /// Where the queue holds back the cursor of its shard.
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

    /// A queue whose subscription has a recorded cursor of its own.
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

    pub(super) fn matches(&self, event: &Event) -> bool {
        self.log.matches(event, &self.subscription)
    }

    /// Applies a change of the subscription. The health of the receiver starts afresh if the receiver is another one,
    /// or if the owner has resumed a failing one.
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

    /// Stops attempts as if the subscription were disabled. Returns the subscription as it was, unless it has stopped
    /// already.
    pub(super) fn halt(&mut self) -> Option<Arc<Subscription>> {
        if !self.is_delivering() {
            return None;
        }
        let former = Arc::clone(&self.subscription);
        self.subscription =
            Arc::new(Subscription { status: Status::Disabled, ..(*former).clone() });
        Some(former)
    }

    /// Offers an event at the head of the log. Without capacity, here or in the engine, the subscription begins to lag.
    pub(super) fn offer(&mut self, event: &Arc<Event>, has_capacity: bool) {
        let has_capacity = has_capacity && !self.attempts.waiting.is_full();
        if self.log.accept(event.position, has_capacity) {
            self.wait(event);
        }
    }

    fn wait(&mut self, event: &Arc<Event>) {
        let key = self.subscription.definition.delivery().order_key(event);
        self.attempts.waiting.push(key, event);
    }

    pub(super) fn wants_read(&self) -> bool {
        let waiting = &self.attempts.waiting;
        self.log.wants_read()
            && self.is_delivering()
            && waiting.ready() < READ_ON_BELOW
            && waiting.bytes() < MAX_READY_BYTES
            && !waiting.is_full()
    }

    /// Takes the events that a read after `after` found up to `scanned`.
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
                self.wait(event);
            }
        }
        self.log.finish_read(scanned, head);
    }

    /// Drops what waits for events up to `up_to`, which retention has deleted, and returns the retries that end so.
    /// Running attempts go on.
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

    /// Frees the slot of an attempt that has ended.
    pub(super) fn end_attempt(&mut self, position: Position) -> Ended {
        let ended = self.attempts.end_attempt(position);
        if ended.retry.is_none() {
            self.log.finish(position);
        }
        ended
    }

    /// Whether an attempt of the event runs, or its first attempt is still to come.
    pub(super) fn is_in_progress(&self, position: Position) -> bool {
        self.attempts.retries.is_running(position) || self.log.is_unfinished(position)
    }

    pub(super) fn can_start(&mut self, now: UnixMillis) -> bool {
        self.is_delivering() && self.attempts.can_start(&self.subscription.definition, now)
    }

    pub(super) fn ready_at(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let is_delivering = self.is_delivering();
        is_delivering.then(|| self.attempts.ready_at(&self.subscription.definition, now)).flatten()
    }

    /// The subscription's cursor, if the node has processed the log up to `head`.
    pub(crate) fn cursor(&self, head: Position) -> Position {
        self.log.position(head)
    }

    /// Whether an unfinished event holds the cursor back.
    pub(crate) fn holds_cursor(&self) -> bool {
        self.log.held_at().is_some()
    }

    /// Whether the subscription reads the log by its own cursor.
    pub(crate) fn is_lagging(&self) -> bool {
        self.log.is_lagging()
    }

    /// Whether the subscription's status allows attempts.
    pub(crate) fn is_delivering(&self) -> bool {
        self.subscription.status.is_delivering()
    }

    /// Bytes of the events that wait in memory.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.attempts.waiting.bytes()
    }

    pub(crate) fn depth(&self) -> QueueDepth {
        let first_attempts = self.attempts.waiting.len();
        QueueDepth { first_attempts, retries: self.attempts.retries.len() }
    }
}
