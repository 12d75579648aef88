//! One client's place in the log, and what waits to be sent to it: decisions only, no I/O.

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

/// How many bytes of events wait for one client that does not read; what is more it is sent later, from the log.
const MOST_QUEUED: usize = 128 << 10;
/// So often a sign of life is due.
pub(super) const BEAT: Duration = Duration::from_secs(15);

/// Why the hub ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The node stops; another, or this one when it is back, goes on from the last id.
    Stopping,
    /// The token or key that opened it has expired.
    Expired,
    /// The key that opened it, or made the token that did, was revoked.
    Revoked,
    /// The subscription is no more, is paused, or is delivered to a callback now.
    Withdrawn,
}

/// Whether a client is at the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All it wants is offered to it.
    Live,
    /// It reads the log by itself.
    Behind,
}

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Send(Rc<Frame>),
    /// Give a sign of life.
    Beat,
    /// Come to an end.
    End(End),
    /// Read on in the log after this place.
    Read(Position),
    /// Wait until woken.
    Wait,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) filter: Arc<Filter>,
    pub(super) expires: Option<Instant>,
    /// What it was let in with.
    pub(super) key: Option<Arc<Key>>,
    place: Place,
    queue: VecDeque<Rc<Frame>>,
    queued: usize,
    /// The last event handed out, or where it began.
    sent: Position,
    /// All it wants up to here is in the queue or was handed out; a live client has that up to the worker's place.
    scanned: Position,
    last_sent: Instant,
    beats_always: bool,
    beat: bool,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Client {
    /// A client that has everything up to `after`. `beats_always`: signs of life come however much is sent.
    pub(super) fn new(
        filter: Arc<Filter>,
        after: Position,
        beats_always: bool,
        now: Instant,
    ) -> Self {
        Self {
            filter,
            expires: None,
            key: None,
            place: Place::Behind,
            queue: VecDeque::new(),
            queued: 0,
            sent: after,
            scanned: after,
            last_sent: now,
            beats_always,
            beat: false,
            end: None,
            waker: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.place == Place::Live
    }

    /// At the tail, and nothing waits.
    pub(super) fn is_at_edge(&self) -> bool {
        self.is_live() && self.queue.is_empty()
    }

    /// The place to go on from: all it wants up to here was handed out. `processed`: the worker's place.
    pub(super) fn cursor(&self, processed: Position) -> Position {
        match (self.queue.is_empty(), self.place) {
            (false, _) => self.sent,
            (true, Place::Live) => self.scanned.max(processed),
            (true, Place::Behind) => self.scanned,
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.is_shut_out() {
            self.finish(End::Revoked);
        }
        if let Some(end) = self.end {
            return Next::End(end);
        }
        if self.beat && (self.beats_always || self.queue.is_empty()) {
            self.beat = false;
            self.last_sent = now;
            return Next::Beat;
        }
        if let Some(frame) = self.queue.pop_front() {
            self.queued -= frame.bytes();
            self.sent = frame.position();
            if !self.beats_always {
                (self.last_sent, self.beat) = (now, false);
            }
            return Next::Send(frame);
        }
        match self.place {
            Place::Live => Next::Wait,
            Place::Behind => Next::Read(self.scanned),
        }
    }

    /// Waits for `waker` to be called.
    pub(super) fn wait(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Puts in the queue what is not in the log.
    pub(super) fn tell(&mut self, frame: Rc<Frame>) {
        self.queued += frame.bytes();
        self.queue.push_back(frame);
    }

    /// Takes an event of the tail; false when there is no room: then it is to fall behind, to before this event.
    pub(super) fn offer(&mut self, frame: &Rc<Frame>) -> bool {
        let position = frame.position();
        if position <= self.scanned || !self.filter.matches_event(frame.event()) {
            return true;
        }
        if !self.queue.is_empty() && self.queued + frame.bytes() > MOST_QUEUED {
            return false;
        }
        self.tell(Rc::clone(frame));
        true
    }

    /// It has all up to `scanned` and reads on by itself.
    pub(super) fn fall_behind(&mut self, scanned: Position) {
        self.place = Place::Behind;
        self.scanned = self.scanned.max(scanned);
    }

    /// Goes on from another place, with another filter.
    pub(super) fn move_to(&mut self, filter: Arc<Filter>, after: Position) {
        self.queue.clear();
        self.queued = 0;
        self.filter = filter;
        self.place = Place::Behind;
        (self.sent, self.scanned) = (after, after);
    }

    /// Takes what a read brought, all that it wants up to `scanned`. `complete`: there was nothing more; then it is
    /// live if the worker is not further.
    pub(super) fn take_page(
        &mut self,
        frames: Vec<Rc<Frame>>,
        scanned: Position,
        complete: bool,
        processed: Position,
    ) {
        for frame in frames {
            self.tell(frame);
        }
        self.scanned = scanned;
        if complete && scanned >= processed {
            self.place = Place::Live;
        }
    }

    /// Whether its key was revoked.
    pub(super) fn is_shut_out(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_revoked())
    }

    pub(super) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// When to look at it again.
    pub(super) fn due(&self) -> Instant {
        let beat = self.last_sent + BEAT;
        self.expires.map_or(beat, |expires| expires.min(beat))
    }

    /// Acts on the passing of time; whether there is something to do for it.
    pub(super) fn take_time(&mut self, now: Instant) -> bool {
        if self.expires.is_some_and(|expires| expires <= now) {
            self.finish(End::Expired);
            return true;
        }
        if self.last_sent + BEAT <= now {
            self.beat = true;
            self.last_sent = now;
        }
        self.beat
    }
}
