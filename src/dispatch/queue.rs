//! One subscription's queue: what it may start next, and how far it is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::unfinished::Unfinished;
use crate::store::deliveries::Retry;
use crate::values::event::Event;
use crate::values::position::Position;
use crate::values::subscription::{Status, Subscription, Version, is_for};
use crate::values::time::UnixMillis;

/// How many events wait in memory for one subscription, and how many bytes of them.
pub(super) const MOST_WAITING: (usize, usize) = (1_000, 1 << 20);
/// A subscription that reads by its own cursor reads on when fewer wait.
const READ_ON_BELOW: usize = 250;
/// With so many retries outstanding, and as many failures in a row, first tries stop but for a probe now and then: a
/// dead receiver is parked, not copied.
const MOST_RETRIES: usize = 100;
/// With so many retries outstanding first tries stop even for a receiver that takes some of its events.
const MOST_RETRIES_OF_A_LIVE_ONE: usize = 10_000;
/// The first gap between probes, which doubles, and the longest.
const PROBE_GAPS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

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
    failures_in_row: usize,
    probe_at: Option<UnixMillis>,
    probe_gap: Duration,
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
            failures_in_row: 0,
            probe_at: None,
            probe_gap: PROBE_GAPS.0,
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

    /// Lets go of what waits up to `gone`, for retention has taken it, and says which retries end by that. What is
    /// under way comes to its own end.
    pub(super) fn expire(&mut self, gone: Position) -> Vec<Position> {
        while let Some(event) = self.waiting.pop_front_if(|event| event.position <= gone) {
            self.waiting_bytes -= event.body.len();
            self.unfinished.finish(event.position);
        }
        let mut ended = Vec::new();
        self.retries.retain(|position, _| {
            let stays = *position > gone || self.retrying.contains(position);
            if !stays {
                ended.push(*position);
            }
            stays
        });
        self.due.retain(|position| self.retries.contains_key(position));
        self.tried.retain(|position| *position > gone);
        self.read_to = self.read_to.max(gone);
        ended
    }

    /// Whether it should read on.
    pub(super) fn wants_read(&self) -> bool {
        self.reading == Reading::Behind { asked: false }
            && self.is_active()
            && self.waiting.len() < READ_ON_BELOW
            && self.waiting_bytes < MOST_WAITING.1
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
    pub(super) fn next(&self, now: UnixMillis) -> Option<Next> {
        if !self.is_active()
            || self.first_tries + self.retrying.len() >= self.subscription.definition.concurrency()
        {
            return None;
        }
        let first = self.waiting.front().filter(|_| self.may_try_first(now));
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

    /// How many events wait for their first attempt, and how many for another.
    pub(super) fn depths(&self) -> (usize, usize) {
        (self.waiting.len(), self.retries.len())
    }

    /// Whether anything may be begun for it.
    pub(super) fn is_active(&self) -> bool {
        self.subscription.status == Status::Active
    }

    /// First tries that run plus what waits for another try: what may come to be on the retry table.
    fn outstanding(&self) -> usize {
        self.first_tries + self.retries.len()
    }

    fn may_try_first(&self, now: UnixMillis) -> bool {
        match self.outstanding() {
            outstanding if self.subscription.definition.ordered => outstanding == 0,
            0..MOST_RETRIES => true,
            MOST_RETRIES..MOST_RETRIES_OF_A_LIVE_ONE => {
                let probe = self.first_tries == 0 && self.probe_at.is_none_or(|at| at <= now);
                self.failures_in_row + self.first_tries < MOST_RETRIES || probe
            }
            _ => false,
        }
    }

    /// Notes whether the receiver took an event. Says when to look at the queue again, if a probe is to be made then.
    pub(super) fn note_outcome(&mut self, delivered: bool, now: UnixMillis) -> Option<UnixMillis> {
        if delivered {
            (self.failures_in_row, self.probe_at, self.probe_gap) = (0, None, PROBE_GAPS.0);
            return None;
        }
        self.failures_in_row += 1;
        if self.failures_in_row >= MOST_RETRIES && self.probe_at.is_none_or(|at| at <= now) {
            self.probe_at = Some(now.after(self.probe_gap));
            self.probe_gap = (self.probe_gap * 2).min(PROBE_GAPS.1);
        }
        self.probe_at
    }

    /// Takes over an event that waits for its next attempt from what is on record: a failure in a row with the others.
    pub(super) fn restore_retry(&mut self, position: Position, retry: Retry) {
        self.set_retry(position, retry);
        self.failures_in_row += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::dispatch::simulation::subscription;
    use crate::values::event::NewEvent;
    use crate::values::event_type::EventType;

    const START: UnixMillis = UnixMillis::EPOCH;

    fn queue_with(events: usize) -> SubscriptionQueue {
        let known = subscription(1, "*", false);
        let mut queue = SubscriptionQueue::at_head(
            Arc::new(known.subscription),
            known.versions,
            Position::START,
        );
        let new = NewEvent {
            event_type: EventType::from_stored("a"),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        for n in 1..=events {
            queue.offer(
                &Arc::new(Event::placed(Position::START.advanced(n), &"t".into(), &new)),
                true,
            );
        }
        queue
    }

    /// Makes first tries until none may be made, and says how many.
    fn first_tries(queue: &mut SubscriptionQueue, delivered: bool, now: UnixMillis) -> usize {
        let mut made = 0;
        while let Some(Next::First(position)) = queue.next(now) {
            queue.start_first().unwrap();
            queue.end_attempt(position);
            if !delivered {
                queue.set_retry(position, Retry { attempts: 1, due: now, first_attempt: now });
            }
            queue.note_outcome(delivered, now);
            made += 1;
        }
        made
    }

    #[test]
    fn a_dead_receiver_is_only_probed_and_one_success_opens_it_again() {
        let mut queue = queue_with(400);
        assert_eq!(first_tries(&mut queue, false, START), MOST_RETRIES);
        let later = START.after(PROBE_GAPS.0);
        assert_eq!(first_tries(&mut queue, false, later), 1, "a probe");
        assert_eq!(
            first_tries(&mut queue, false, later.after(PROBE_GAPS.0)),
            0,
            "the gap has doubled"
        );
        assert_eq!(
            first_tries(&mut queue, true, later.after(PROBE_GAPS.0 * 2)),
            400 - MOST_RETRIES - 1
        );
    }

    #[test]
    fn what_retention_has_taken_no_longer_waits_and_what_is_under_way_ends_by_itself() {
        let at = |n| Position::START.advanced(n);
        let mut queue = queue_with(10);
        queue.start_first().unwrap();
        queue.start_first().unwrap();
        queue.end_attempt(at(2));
        queue.set_retry(at(2), Retry { attempts: 1, due: START, first_attempt: START });
        queue.fall_due(at(2));
        assert_eq!(queue.expire(at(6)), [at(2)]);
        assert!(queue.is_under_way(at(1)));
        queue.end_attempt(at(1));
        assert_eq!(queue.next(START), Some(Next::First(at(7))));
        assert_eq!(queue.cursor(at(10)), at(6));
        assert_eq!(queue.waiting_bytes(), queue_with(4).waiting_bytes());
    }

    #[test]
    fn events_that_are_refused_do_not_hold_up_those_that_are_taken() {
        let mut queue = queue_with(900);
        for round in 0..9 {
            for _ in 0..99 {
                let Some(Next::First(position)) = queue.next(START) else {
                    panic!("held up in round {round}")
                };
                queue.start_first().unwrap();
                queue.end_attempt(position);
                queue.set_retry(position, Retry { attempts: 1, due: START, first_attempt: START });
                queue.note_outcome(false, START);
            }
            let Some(Next::First(position)) = queue.next(START) else {
                panic!("held up in round {round}")
            };
            queue.start_first().unwrap();
            queue.end_attempt(position);
            queue.note_outcome(true, START);
        }
    }
}
