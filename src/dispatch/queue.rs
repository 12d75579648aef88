//! One subscription's queue: what it may start next, and how far it is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::unfinished::Unfinished;
use crate::store::deliveries::Retry;
use crate::values::event::Event;
use crate::values::position::Position;
use crate::values::subscription::{Status, Subscription, Version, is_for};

/// How many events wait in memory for one subscription, and how many bytes of them.
pub(super) const MOST_WAITING: (usize, usize) = (1_000, 1 << 20);
/// A subscription that reads by its own cursor reads on when fewer wait.
const READ_ON_BELOW: usize = 250;
/// With so many retries outstanding no first tries are started: a dead receiver is parked, not copied.
const MOST_RETRIES: usize = 100;

/// Where a subscription gets its events from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// With all others, as the log goes on.
    Head,
    /// By a cursor of its own, until it has caught up; `asked` while a read is under way.
    Behind { asked: bool },
}

/// A delivery to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The first try of the event at the queue's front.
    First(Position),
    /// Another try; the event must be fetched first.
    Retry(Position),
}

/// What the dispatcher holds of one subscription. Bounded, whatever its backlog.
#[derive(Debug)]
pub(super) struct SubscriptionQueue {
    /// As it stands.
    pub(super) subscription: Arc<Subscription>,
    versions: Vec<Version>,
    reading: Reading,
    /// Everything for it at or below has been taken up.
    read_to: Position,
    waiting: VecDeque<Arc<Event>>,
    waiting_bytes: usize,
    unfinished: Unfinished,
    first_tries: usize,
    retries: HashMap<Position, Retry>,
    due: VecDeque<Position>,
    retrying: HashSet<Position>,
    /// Tried before a crash or take-over, with the result on record: not to be taken up again.
    tried: HashSet<Position>,
    /// Its row among the cursors, as far as it is written.
    pub(super) own_row: Option<Position>,
    /// Whether it stands in the dispatcher's line of those that can begin something.
    pub(super) in_line: bool,
    /// Whether it stands in the dispatcher's line of those that want to read on.
    pub(super) in_readers: bool,
}

impl SubscriptionQueue {
    /// A queue that takes events with all others from `read_to` on.
    pub(super) fn at_head(
        subscription: Arc<Subscription>,
        versions: Vec<Version>,
        read_to: Position,
    ) -> Self {
        Self {
            subscription,
            versions,
            reading: Reading::Head,
            read_to,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unfinished: Unfinished::default(),
            first_tries: 0,
            retries: HashMap::new(),
            due: VecDeque::new(),
            retrying: HashSet::new(),
            tried: HashSet::new(),
            own_row: None,
            in_line: false,
            in_readers: false,
        }
    }

    /// A queue that reads by its own cursor, which is on record.
    pub(super) fn behind(
        subscription: Arc<Subscription>,
        versions: Vec<Version>,
        cursor: Position,
    ) -> Self {
        let queue = Self::at_head(subscription, versions, cursor);
        Self { reading: Reading::Behind { asked: false }, own_row: Some(cursor), ..queue }
    }

    /// Notes a result that is on record above the cursor.
    pub(super) fn note_tried(&mut self, position: Position) {
        self.tried.insert(position);
    }

    /// Takes over a change of the subscription.
    pub(super) fn change(&mut self, subscription: Arc<Subscription>, versions: Vec<Version>) {
        self.subscription = subscription;
        self.versions = versions;
    }

    /// Begins nothing more, as if disabled; says who, unless it was so already.
    pub(super) fn halt(&mut self) -> Option<Arc<Subscription>> {
        if !self.is_active() {
            return None;
        }
        let before = Arc::clone(&self.subscription);
        self.subscription =
            Arc::new(Subscription { status: Status::Disabled, ..(*before).clone() });
        Some(before)
    }

    /// Takes an event from the head of the log, or lets it be and turns to a cursor of its own when too many wait.
    pub(super) fn offer(&mut self, event: &Arc<Event>, room: bool) {
        if self.reading != Reading::Head || event.position <= self.read_to {
            return;
        }
        let (most, most_bytes) = MOST_WAITING;
        if self.waiting.len() >= most || self.waiting_bytes >= most_bytes || !room {
            self.read_to = event.position.previous();
            self.reading = Reading::Behind { asked: false };
        } else {
            self.take_up(event);
        }
    }

    fn take_up(&mut self, event: &Arc<Event>) {
        self.read_to = event.position;
        if !self.tried.remove(&event.position) {
            self.unfinished.take_up(event.position);
            self.waiting_bytes += event.body.len();
            self.waiting.push_back(Arc::clone(event));
        }
    }

    /// Whether it should read on.
    pub(super) fn wants_read(&self) -> bool {
        self.reading == Reading::Behind { asked: false }
            && self.is_active()
            && self.waiting.len() < READ_ON_BELOW
            && self.waiting_bytes < MOST_WAITING.1
            && self.outstanding() < self.most_outstanding()
    }

    /// Where to read on from; the answer comes by [`Self::take_read`] or [`Self::read_failed`].
    pub(super) fn start_read(&mut self) -> Position {
        self.reading = Reading::Behind { asked: true };
        self.read_to
    }

    /// Takes what was read of the log up to `scanned`; caught up when that reaches `head`.
    pub(super) fn take_read(&mut self, events: &[Arc<Event>], scanned: Position, head: Position) {
        let (id, tenant) = (self.subscription.id, Arc::clone(&self.subscription.tenant));
        for event in events.iter().filter(|event| event.position > self.read_to).collect::<Vec<_>>()
        {
            if is_for(event, id, &tenant, &self.versions) {
                self.take_up(event);
            }
        }
        self.read_to = self.read_to.max(scanned);
        self.reading =
            if self.read_to >= head { Reading::Head } else { Reading::Behind { asked: false } };
    }

    /// A read did not come about; it is wanted again.
    pub(super) fn read_failed(&mut self) {
        self.reading = Reading::Behind { asked: false };
    }

    /// What to begin next, if anything: first tries before retries, but one slot always serves the retries that are
    /// due.
    pub(super) fn next(&self) -> Option<Next> {
        if !self.is_active()
            || self.first_tries + self.retrying.len() >= self.subscription.definition.concurrency()
        {
            return None;
        }
        let first = self.waiting.front().filter(|_| self.outstanding() < self.most_outstanding());
        match (first, self.due.front()) {
            (_, Some(due)) if self.retrying.is_empty() => Some(Next::Retry(*due)),
            (Some(event), _) => Some(Next::First(event.position)),
            (None, Some(due)) => Some(Next::Retry(*due)),
            (None, None) => None,
        }
    }

    /// Begins the first try of the front event.
    pub(super) fn start_first(&mut self) -> Option<Arc<Event>> {
        let event = self.waiting.pop_front()?;
        self.waiting_bytes -= event.body.len();
        self.first_tries += 1;
        Some(event)
    }

    /// Reserves a slot for the retry that has been due longest.
    pub(super) fn start_retry(&mut self) -> Option<Position> {
        let position = self.due.pop_front()?;
        self.retrying.insert(position);
        Some(position)
    }

    /// Gives the slot of a retry back that could not be begun; it stays due.
    pub(super) fn put_back_retry(&mut self, position: Position) {
        if self.retrying.remove(&position) {
            self.due.push_front(position);
        }
    }

    /// Frees the slot of an attempt that has ended, and says what was waited for before it, if it was a retry.
    pub(super) fn end_attempt(&mut self, position: Position) -> Option<Retry> {
        if self.retrying.remove(&position) {
            return self.retries.remove(&position);
        }
        self.first_tries = self.first_tries.saturating_sub(1);
        self.unfinished.finish(position);
        None
    }

    /// Notes that an event waits for its next attempt.
    pub(super) fn set_retry(&mut self, position: Position, retry: Retry) {
        self.retries.insert(position, retry);
    }

    /// What an event waits for.
    pub(super) fn retry(&self, position: Position) -> Option<Retry> {
        self.retries.get(&position).copied()
    }

    /// Whether an attempt at this event runs, or its first is still to come.
    pub(super) fn is_under_way(&self, position: Position) -> bool {
        self.retrying.contains(&position) || self.unfinished.contains(position)
    }

    /// An event's time has come.
    pub(super) fn fall_due(&mut self, position: Position) {
        if self.retries.contains_key(&position)
            && !self.retrying.contains(&position)
            && !self.due.contains(&position)
        {
            self.due.push_back(position);
        }
    }

    /// How far all is delivered or on record, when all others have seen the log up to `head`.
    pub(super) fn cursor(&self, head: Position) -> Position {
        let taken_up = if self.is_behind() { self.read_to } else { self.read_to.max(head) };
        self.unfinished.cursor().unwrap_or(taken_up)
    }

    /// Whether anything it took up holds the cursor back.
    pub(super) fn holds_back(&self) -> bool {
        self.unfinished.cursor().is_some()
    }

    /// Whether it reads by a cursor of its own.
    pub(super) fn is_behind(&self) -> bool {
        self.reading != Reading::Head
    }

    /// Bytes of the events that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether anything may be begun for it.
    pub(super) fn is_active(&self) -> bool {
        self.subscription.status == Status::Active
    }

    /// First tries that run plus what waits for another try: what may come to be on the retry table.
    fn outstanding(&self) -> usize {
        self.first_tries + self.retries.len()
    }

    fn most_outstanding(&self) -> usize {
        if self.subscription.definition.ordered { 1 } else { MOST_RETRIES }
    }
}
