//! One subscription's queue: what it may begin next, and how far it is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::lanes::{First, Lanes, MOST_READY};
use super::receiver::Receiver;
use super::retries::Retries;
use super::unfinished::Unfinished;
use crate::domain::delivery::outcome::Outcome;
use crate::domain::delivery::retry::Retry;
use crate::domain::event::Event;
use crate::domain::position::Position;
use crate::domain::subscription::version::{Version, matches_event};
use crate::domain::subscription::{Status, Subscription};
use crate::domain::time::UnixMillis;

/// A subscription that reads by its own cursor reads on when fewer wait.
const READ_ON_BELOW: usize = 250;
/// With so many retries outstanding first tries stop even for a receiver that takes some of its events.
const MOST_RETRIES: usize = 10_000;

/// Where a subscription gets its events from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// With all others, as the log goes on.
    Head,
    /// By a cursor of its own, until it has caught up; `asked` while a read is under way.
    Behind { asked: bool },
}

/// What may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The first try of the event that has waited longest.
    First,
    /// Another try, which is due.
    Due(Position),
    /// Another try, before it is due: a probe.
    Ahead(Position),
}

/// What was begun; its slot is taken.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The first try of this event.
    Event(Arc<Event>),
    /// A try of the event at this place, which must be fetched.
    FetchEvent(Position),
}

/// An attempt that has ended; its order key is busy until it is released, or waits for another try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// What was waited for before it, if it was not the first.
    pub(crate) before: Option<Retry>,
    /// What the event is ordered by.
    pub(crate) order_key: Option<i64>,
}

/// Where a queue stands with the dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// How many bytes of it are counted among all that wait.
    pub(crate) counted_bytes: usize,
    /// Whether it stands in the line of those that can begin something.
    pub(crate) to_begin: bool,
    /// Whether it stands in the line of those that want to read on.
    pub(crate) to_read: bool,
    /// When it will be looked at again, if time alone lets it go on.
    pub(crate) wakes_at: Option<UnixMillis>,
}

/// What the dispatcher holds of one subscription. Bounded, whatever its backlog.
#[derive(Debug)]
pub(crate) struct SubscriptionQueue {
    /// As it stands.
    pub(crate) subscription: Arc<Subscription>,
    versions: Vec<Version>,
    reading: Reading,
    /// Everything for it at or below has been taken up.
    read_to: Position,
    waiting: Lanes,
    unfinished: Unfinished,
    first_tries: usize,
    /// Of the first tries that run, those of ordered events, with their keys.
    running_keys: HashMap<Position, i64>,
    retries: Retries,
    /// Whether the last attempt begun was not a first one.
    begun_retry: bool,
    receiver: Receiver,
    /// Tried before a crash or take-over, with the result on record: not to be taken up again.
    tried: HashSet<Position>,
    /// Between these places of the log its shard had no owner here while the log was acted on.
    missed: Option<(Position, Position)>,
    /// Its row among the cursors, as far as it is written.
    pub(crate) own_row: Option<Position>,
    /// Where it stands with the dispatcher.
    pub(crate) lines: Lines,
    /// Whether a change of its status is being made.
    pub(crate) is_changing: bool,
}

impl SubscriptionQueue {
    /// A queue that takes events with all others from `read_to` on.
    pub(crate) fn at_head(
        subscription: Arc<Subscription>,
        versions: Vec<Version>,
        read_to: Position,
    ) -> Self {
        let receiver = Receiver::of(&subscription);
        Self {
            subscription,
            versions,
            reading: Reading::Head,
            read_to,
            waiting: Lanes::default(),
            unfinished: Unfinished::default(),
            first_tries: 0,
            running_keys: HashMap::new(),
            retries: Retries::default(),
            receiver,
            tried: HashSet::new(),
            missed: None,
            own_row: None,
            begun_retry: false,
            lines: Lines::default(),
            is_changing: false,
        }
    }

    /// A queue that reads by its own cursor. `own_row`: whether that is on record as its own.
    pub(crate) fn behind(
        subscription: Arc<Subscription>,
        versions: Vec<Version>,
        cursor: Position,
        own_row: bool,
    ) -> Self {
        let queue = Self::at_head(subscription, versions, cursor);
        let own_row = own_row.then_some(cursor);
        Self { reading: Reading::Behind { asked: false }, own_row, ..queue }
    }

    /// Whether `event` is for the subscription.
    pub(crate) fn matches(&self, event: &Event) -> bool {
        matches_event(event, self.subscription.id, &self.subscription.tenant, &self.versions)
    }

    /// Whether it takes more of what is replayed: fewer than `most` wait for a try, and none where the receiver is failing.
    pub(crate) fn takes_replays(&self, most: usize) -> bool {
        // What a failing receiver is sent again may be all that it can be tried with.
        let most = if self.failing_since().is_some() { 1 } else { most };
        self.is_delivering() && self.retries.len() < most
    }

    /// The events that wait for another try.
    pub(crate) fn waiting_retries(&self) -> HashSet<Position> {
        self.retries.positions()
    }

    /// Requests between these places are met by its own reading alone.
    pub(crate) fn note_missed(&mut self, after: Position, up_to: Position) {
        self.missed = Some((after, up_to));
    }

    /// Whether a request at this place is met by its own reading alone.
    pub(crate) fn missed(&self, position: Position) -> bool {
        self.missed.is_some_and(|(after, up_to)| after < position && position <= up_to)
    }

    /// Notes a result that is on record above the cursor.
    pub(crate) fn note_tried(&mut self, position: Position) {
        self.tried.insert(position);
    }

    /// Takes over a change of the subscription. Let go on by its owner, or pointed elsewhere, it begins anew.
    pub(crate) fn change(&mut self, subscription: Arc<Subscription>, versions: Vec<Version>) {
        let former = &self.subscription;
        let let_go = subscription.status == Status::Active && former.status != Status::Active;
        let elsewhere =
            !subscription.definition.channel.has_same_receiver(&former.definition.channel);
        if elsewhere || let_go && self.failing_since().is_some() {
            self.receiver.begin_again();
        }
        self.subscription = subscription;
        self.versions = versions;
    }

    /// Begins nothing more, as if disabled; says who, unless it was so already.
    pub(crate) fn halt(&mut self) -> Option<Arc<Subscription>> {
        if !self.is_delivering() {
            return None;
        }
        let before = Arc::clone(&self.subscription);
        self.subscription =
            Arc::new(Subscription { status: Status::Disabled, ..(*before).clone() });
        Some(before)
    }

    /// Takes an event from the head of the log, or lets it be and turns to a cursor of its own when too many wait.
    pub(crate) fn offer(&mut self, event: &Arc<Event>, room: bool) {
        if self.reading != Reading::Head || event.position <= self.read_to {
            return;
        }
        if self.waiting.is_full() || !room {
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
            let key = self.subscription.definition.delivery().order_key(event);
            self.waiting.push(key, event);
        }
    }

    /// Lets go of what waits up to `gone`, for retention has taken it, and says which retries end by that. What is
    /// under way comes to its own end.
    pub(crate) fn expire(&mut self, gone: Position) -> Vec<Position> {
        for position in self.waiting.expire(gone) {
            self.unfinished.finish(position);
        }
        let ended = self.retries.expire(gone);
        for (_, retry) in &ended {
            self.release(retry.order_key);
        }
        self.tried.retain(|position| *position > gone);
        self.read_to = self.read_to.max(gone);
        ended.into_iter().map(|(position, _)| position).collect()
    }

    /// Whether it should read on.
    pub(crate) fn wants_read(&self) -> bool {
        self.reading == Reading::Behind { asked: false }
            && self.is_delivering()
            && self.waiting.ready() < READ_ON_BELOW
            && self.waiting.bytes() < MOST_READY.1
            && !self.waiting.is_full()
    }

    /// Where to read on from; the answer comes by [`Self::handle_read`] or [`Self::handle_read_error`].
    pub(crate) fn start_read(&mut self) -> Position {
        self.reading = Reading::Behind { asked: true };
        self.read_to
    }

    /// Takes what was read of the log after `after` up to `scanned`; caught up when that reaches `head`.
    pub(crate) fn handle_read(
        &mut self,
        after: Position,
        events: &[Arc<Event>],
        scanned: Position,
        head: Position,
    ) {
        if self.reading != (Reading::Behind { asked: true }) || after != self.read_to {
            // It was asked for by an earlier owner of the shard, or what it brings is gone.
            self.handle_read_error();
            return;
        }
        for event in events {
            if self.matches(event) {
                self.take_up(event);
            }
        }
        self.read_to = self.read_to.max(scanned);
        self.reading =
            if self.read_to >= head { Reading::Head } else { Reading::Behind { asked: false } };
    }

    /// A read did not come about; it is wanted again.
    pub(crate) fn handle_read_error(&mut self) {
        if self.is_lagging() {
            self.reading = Reading::Behind { asked: false };
        }
    }

    /// Whether something may be begun now.
    pub(crate) fn can_begin(&mut self, now: UnixMillis) -> bool {
        self.next(now).is_some()
    }

    /// First tries before retries, but one slot always serves the retries that are due.
    fn next(&mut self, now: UnixMillis) -> Option<Next> {
        if !self.has_slot() || self.limit_ends_at(now) > now {
            return None;
        }
        if self.failing_since().is_some() {
            return self.next_while_failing(now);
        }
        let first =
            self.retries.len() + self.first_tries < MOST_RETRIES && self.waiting.has_first();
        // With one slot alone they take turns.
        let turn = self.retries.running() == 0 && (self.most_at_once() > 1 || !self.begun_retry);
        match (first, self.retries.next_due()) {
            (_, Some(due)) if turn => Some(Next::Due(due)),
            (true, _) => Some(Next::First),
            (false, due) => due.map(Next::Due),
        }
    }

    /// A probe now and then; else retries keep to their schedule, and nothing else is begun.
    fn next_while_failing(&mut self, now: UnixMillis) -> Option<Next> {
        if self.receiver.probe_at().is_some_and(|at| at > now) {
            return self.retries.next_due().map(Next::Due);
        }
        // Of an event not tried yet, so that those the receiver will never take, which are tried by their schedule, do not
        // hide those it would.
        let untried = self.waiting.has_first().then_some(Next::First);
        untried.or(self.retries.oldest().map(Next::Ahead))
    }

    /// Whether there is room for one more.
    fn has_slot(&self) -> bool {
        self.is_delivering() && self.running() < self.most_at_once()
    }

    fn most_at_once(&self) -> usize {
        self.receiver.most_at_once(&self.subscription.definition)
    }

    fn limit_ends_at(&self, now: UnixMillis) -> UnixMillis {
        self.receiver.limit_ends_at(&self.subscription.definition, now)
    }

    /// When time alone will let it begin something, if it cannot now.
    pub(crate) fn goes_on_at(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        if !self.has_slot() {
            return None;
        }
        let due = self.retries.next_due().is_some();
        let waits = due || self.waiting.has_first();
        let probe = self.receiver.probe_at().filter(|_| !due);
        let probed = probe.is_some() && (waits || self.retries.len() > 0);
        let at = self.limit_ends_at(now).max(probe.unwrap_or(now));
        (at > now && (waits || probed)).then_some(at)
    }

    /// Begins what may be begun now, if anything.
    pub(crate) fn begin(&mut self, now: UnixMillis) -> Option<Begun> {
        let next = self.next(now)?;
        self.receiver.begin(&self.subscription.definition, now);
        self.begun_retry = next != Next::First;
        match next {
            Next::First => self.begin_first(),
            Next::Due(position) | Next::Ahead(position) => {
                self.retries.begin(position);
                Some(Begun::FetchEvent(position))
            }
        }
    }

    fn begin_first(&mut self) -> Option<Begun> {
        let (first, key) = self.waiting.begin()?;
        self.first_tries += 1;
        let (position, begun) = match first {
            First::Ready(event) => (event.position, Begun::Event(event)),
            First::Held(position) => (position, Begun::FetchEvent(position)),
        };
        if let Some(key) = key {
            self.running_keys.insert(position, key);
        }
        Some(begun)
    }

    /// Which try it is for whose sake the event at `position` was fetched; `None` when there is none any more.
    pub(crate) fn fetched(&self, position: Position) -> Option<u16> {
        if self.retries.is_running(position) {
            let retry = self.retry(position)?;
            return Some(retry.attempts.saturating_add(1));
        }
        self.running_keys.contains_key(&position).then_some(1)
    }

    /// Gives the slot back of a try that could not be begun; it stays due.
    pub(crate) fn put_back(&mut self, position: Position) {
        if self.retries.put_back(position) {
            return;
        }
        if let Some(key) = self.running_keys.remove(&position) {
            self.first_tries -= 1;
            self.waiting.put_back(key, position);
        }
    }

    /// Frees the slot of an attempt that has ended.
    pub(crate) fn end_attempt(&mut self, position: Position) -> Ended {
        if let Some(before) = self.retries.end(position) {
            return Ended { before: Some(before), order_key: before.order_key };
        }
        self.first_tries = self.first_tries.saturating_sub(1);
        self.unfinished.finish(position);
        Ended { before: None, order_key: self.running_keys.remove(&position) }
    }

    /// A delivery has come to its end: what is ordered after it may go.
    pub(crate) fn release(&mut self, order_key: Option<i64>) {
        if let Some(key) = order_key {
            self.waiting.release(key);
        }
    }

    /// Notes that an event whose attempt has just ended waits for its next.
    pub(crate) fn wait_again(&mut self, position: Position, retry: Retry) {
        self.retries.set(position, retry);
    }

    /// Notes that an event waits for its next attempt that did not before.
    pub(crate) fn add_retry(&mut self, position: Position, retry: Retry) {
        if self.retries.set(position, retry)
            && let Some(key) = retry.order_key
        {
            self.waiting.occupy(key);
        }
    }

    /// What an event waits for.
    pub(crate) fn retry(&self, position: Position) -> Option<Retry> {
        self.retries.get(position)
    }

    /// Whether an attempt at this event runs, or its first is still to come.
    pub(crate) fn is_under_way(&self, position: Position) -> bool {
        self.retries.is_running(position) || self.unfinished.contains(position)
    }

    /// An event's time has come.
    pub(crate) fn fall_due(&mut self, position: Position) {
        self.retries.fall_due(position);
    }

    /// Notes what the receiver did with an attempt that began at `began` and took `latency`.
    pub(crate) fn note_outcome(
        &mut self,
        outcome: &Outcome,
        (began, latency): (UnixMillis, Duration),
        now: UnixMillis,
    ) {
        self.receiver.note(&self.subscription.definition, outcome, (began, latency), now);
    }

    /// Since when its receiver has taken nothing, after a run of failures.
    pub(crate) fn failing_since(&self) -> Option<UnixMillis> {
        self.receiver.failing_since()
    }

    /// How far all is delivered or on record, when all others have seen the log up to `head`.
    pub(crate) fn cursor(&self, head: Position) -> Position {
        let taken_up = if self.is_lagging() { self.read_to } else { self.read_to.max(head) };
        self.unfinished.cursor().unwrap_or(taken_up)
    }

    /// Whether anything it took up holds the cursor back.
    pub(crate) fn holds_cursor(&self) -> bool {
        self.unfinished.cursor().is_some()
    }

    /// Whether it reads by a cursor of its own.
    pub(crate) fn is_lagging(&self) -> bool {
        self.reading != Reading::Head
    }

    /// Bytes of the events that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// How many events wait for their first attempt, and how many for another.
    pub(crate) fn depths(&self) -> (usize, usize) {
        (self.waiting.len(), self.retries.len())
    }

    /// Whether anything may be begun for it.
    pub(crate) fn is_delivering(&self) -> bool {
        self.subscription.status.is_delivering()
    }

    /// How many attempts run.
    pub(crate) fn running(&self) -> usize {
        self.first_tries + self.retries.running()
    }
}
