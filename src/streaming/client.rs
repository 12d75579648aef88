//! The state of one stream client: its cursor and its queue of events. Pure decisions, no I/O.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::filter::Filter;
use super::frame::Frame;
use crate::access::keys::Key;
use crate::domain::position::Position;

/// The worker queues no event for a client that would then have more than this queued, unless its queue is empty. The
/// client reads such events from the log.
const MAX_QUEUED_BYTES: usize = 128 << 10;
/// A client gets a heartbeat after this time without an event.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Why the hub ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The node stops. The client can resume from its last id on any node.
    Stopping,
    /// The token or key that opened the stream has expired.
    Expired,
    /// The key that opened the stream, or that issued its token, was revoked.
    Revoked,
    /// The subscription was deleted, paused or changed to a webhook.
    Withdrawn,
}

/// The source of a client's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadMode {
    /// The worker offers each new event.
    Live,
    /// The client reads the log by its own cursor.
    CatchingUp,
}

#[derive(Debug)]
pub(super) enum ClientAction {
    Send(Rc<Frame>),
    Heartbeat,
    End(StreamEnd),
    ReadAfter(Position),
    /// Nothing to do until the client's waker is called.
    Wait,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) filter: Arc<Filter>,
    pub(super) expires: Option<Instant>,
    /// The key whose revocation ends the stream.
    pub(super) key: Option<Arc<Key>>,
    mode: ReadMode,
    queue: VecDeque<Rc<Frame>>,
    queued_bytes: usize,
    /// The last event that was sent, or the start.
    sent: Position,
    /// All matching events up to here are queued or sent. A live client also has those up to the worker's position.
    scanned: Position,
    /// When the last event or heartbeat was sent; with `always_heartbeat`, the last heartbeat.
    last_sent: Instant,
    always_heartbeat: bool,
    heartbeat_due: bool,
    end: Option<StreamEnd>,
    waker: Option<Waker>,
}

impl Client {
    /// The client first reads the log after `after`. `always_heartbeat`: heartbeats are due every
    /// [`HEARTBEAT_INTERVAL`] even while events are sent.
    pub(super) fn new(
        filter: Arc<Filter>,
        after: Position,
        always_heartbeat: bool,
        now: Instant,
    ) -> Self {
        Self {
            filter,
            expires: None,
            key: None,
            mode: ReadMode::CatchingUp,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: after,
            scanned: after,
            last_sent: now,
            always_heartbeat,
            heartbeat_due: false,
            end: None,
            waker: None,
        }
    }

    /// Whether new events come from the worker, and not from reads of the log.
    pub(super) fn is_live(&self) -> bool {
        self.mode == ReadMode::Live
    }

    /// Whether the client is live and every matching event was sent.
    pub(super) fn is_caught_up(&self) -> bool {
        self.is_live() && self.queue.is_empty()
    }

    /// All matching events up to here were sent. `processed`: the worker's position.
    pub(super) fn cursor(&self, processed: Position) -> Position {
        match (self.queue.is_empty(), self.mode) {
            (false, _) => self.sent,
            (true, ReadMode::Live) => self.scanned.max(processed),
            (true, ReadMode::CatchingUp) => self.scanned,
        }
    }

    pub(super) fn next_action(&mut self, now: Instant) -> ClientAction {
        if self.is_key_revoked() {
            self.end_stream(StreamEnd::Revoked);
        }
        if let Some(end) = self.end {
            return ClientAction::End(end);
        }
        if self.heartbeat_due && (self.always_heartbeat || self.queue.is_empty()) {
            self.heartbeat_due = false;
            self.last_sent = now;
            return ClientAction::Heartbeat;
        }
        if let Some(frame) = self.queue.pop_front() {
            self.queued_bytes -= frame.bytes();
            self.sent = frame.position();
            if !self.always_heartbeat {
                (self.last_sent, self.heartbeat_due) = (now, false);
            }
            return ClientAction::Send(frame);
        }
        match self.mode {
            ReadMode::Live => ClientAction::Wait,
            ReadMode::CatchingUp => ClientAction::ReadAfter(self.scanned),
        }
    }

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// `None` if the reader's task is not waiting.
    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Queues an event. Neither the filter nor [`MAX_QUEUED_BYTES`] applies.
    pub(super) fn enqueue(&mut self, frame: Rc<Frame>) {
        self.queued_bytes += frame.bytes();
        self.queue.push_back(frame);
    }

    /// Queues an event of the tail if it is new and matches. `false` only if the queue is full: the caller must then
    /// call [`Self::fall_behind`].
    pub(super) fn offer(&mut self, frame: &Rc<Frame>) -> bool {
        let position = frame.position();
        if position <= self.scanned || !self.filter.matches_event(frame.event()) {
            return true;
        }
        if !self.queue.is_empty() && self.queued_bytes + frame.bytes() > MAX_QUEUED_BYTES {
            return false;
        }
        self.enqueue(Rc::clone(frame));
        true
    }

    /// Makes a live client read the log again, after `scanned`.
    pub(super) fn fall_behind(&mut self, scanned: Position) {
        self.mode = ReadMode::CatchingUp;
        self.scanned = self.scanned.max(scanned);
    }

    /// Drops the queued events, and reads the log after `after`.
    pub(super) fn restart(&mut self, filter: Arc<Filter>, after: Position) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.filter = filter;
        self.mode = ReadMode::CatchingUp;
        (self.sent, self.scanned) = (after, after);
    }

    /// Queues matching events of a page up to `scanned`. The client becomes live if the page is `complete`, to the end
    /// of the log, and `scanned` has reached `processed`, the worker's position.
    pub(super) fn accept_page(
        &mut self,
        frames: Vec<Rc<Frame>>,
        scanned: Position,
        complete: bool,
        processed: Position,
    ) {
        for frame in frames {
            self.enqueue(frame);
        }
        self.scanned = scanned;
        if complete && scanned >= processed {
            self.mode = ReadMode::Live;
        }
    }

    /// `false` if the stream was opened without a key.
    pub(super) fn is_key_revoked(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_revoked())
    }

    /// If the stream has ended already, the first reason stays.
    pub(super) fn end_stream(&mut self, end: StreamEnd) {
        self.end.get_or_insert(end);
    }

    /// The next heartbeat or the stream's expiry, when [`Self::handle_time`] must be called.
    pub(super) fn due(&self) -> Instant {
        let heartbeat = self.last_sent + HEARTBEAT_INTERVAL;
        self.expires.map_or(heartbeat, |expires| expires.min(heartbeat))
    }

    /// Ends an expired stream, or marks a heartbeat as due. Returns whether to wake the reader.
    pub(super) fn handle_time(&mut self, now: Instant) -> bool {
        if self.expires.is_some_and(|expires| expires <= now) {
            self.end_stream(StreamEnd::Expired);
            return true;
        }
        if self.last_sent + HEARTBEAT_INTERVAL <= now {
            self.heartbeat_due = true;
            self.last_sent = now;
        }
        self.heartbeat_due
    }
}
