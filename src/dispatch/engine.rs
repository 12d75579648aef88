//! The dispatcher's decisions, as a machine of values: events, outcomes and time go in; deliveries to begin, reads to
//! make and results to record come out. No I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::queue::{Next, SubscriptionQueue};
use super::results::Results;
use crate::store::deliveries::{Attempt, DeliveryState, Flush, Retry};
use crate::store::shards::OwnedShard;
use crate::values::event::Event;
use crate::values::id::SubscriptionId;
use crate::values::matcher::Matcher;
use crate::values::outcome::{Outcome, Verdict};
use crate::values::position::Position;
use crate::values::retry::RetrySchedule;
use crate::values::subscription::{Subscription, TEST_EVENT, Version};
use crate::values::time::UnixMillis;

/// How many deliveries run at once on a node.
const MOST_IN_FLIGHT: usize = 4_096;
/// How many bytes of events wait in all queues before full ones are made to read by themselves.
const MOST_WAITING_BYTES: usize = 256 << 20;
/// With so many results not recorded yet (the database is away) nothing new is begun.
const MOST_UNRECORDED: usize = 20_000;

/// A POST to make.
#[derive(Debug)]
pub(super) struct Start {
    /// To whom.
    pub(super) subscription: Arc<Subscription>,
    /// What.
    pub(super) event: Arc<Event>,
    /// Which attempt, from 1.
    pub(super) number: u16,
}

/// A stretch of the log to read for a subscription that is behind.
#[derive(Debug)]
pub(super) struct Read {
    /// For whom.
    pub(super) subscription: Arc<Subscription>,
    /// From here on.
    pub(super) after: Position,
    /// To here.
    pub(super) up_to: Position,
}

/// A subscription as its shard's owner needs it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// As it stands.
    pub(super) subscription: Subscription,
    /// Its patterns over time.
    pub(super) versions: Vec<Version>,
}

/// A subscription that is new to its shard's owner, or may be, with where its deliveries stand.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    /// The subscription.
    pub(super) known: Known,
    /// Its deliveries.
    pub(super) state: DeliveryState,
}

/// All decisions for the shards of one node.
#[derive(Debug)]
pub(super) struct Engine {
    schedule: RetrySchedule,
    owned: HashMap<u16, OwnedShard>,
    queues: HashMap<SubscriptionId, SubscriptionQueue>,
    matcher: Matcher<SubscriptionId>,
    processed: Position,
    now: UnixMillis,
    in_flight: usize,
    waiting_bytes: usize,
    /// Queues that can begin something, each once.
    line: VecDeque<SubscriptionId>,
    /// Queues that want to read on.
    readers: VecDeque<SubscriptionId>,
    due: BTreeSet<(UnixMillis, SubscriptionId, Position)>,
    /// Queues to be looked at again because a probe may be made then.
    probes: BTreeSet<(UnixMillis, SubscriptionId)>,
    /// Queues that hold the cursor back, or have one of their own.
    holding: HashSet<SubscriptionId>,
    /// Subscriptions that answered 410.
    gone: Vec<SubscriptionId>,
    results: Results,
}

impl Engine {
    /// The machine for `owned` shards with their subscriptions and where these stand.
    pub(super) fn new(
        schedule: RetrySchedule,
        owned: &[OwnedShard],
        known: Vec<Known>,
        state: DeliveryState,
    ) -> Self {
        let mut engine = Self {
            schedule,
            owned: owned.iter().map(|shard| (shard.shard, *shard)).collect(),
            queues: HashMap::new(),
            matcher: Matcher::default(),
            processed: owned.iter().map(|shard| shard.cursor).min().unwrap_or_default(),
            now: UnixMillis::EPOCH,
            in_flight: 0,
            waiting_bytes: 0,
            line: VecDeque::new(),
            readers: VecDeque::new(),
            due: BTreeSet::new(),
            probes: BTreeSet::new(),
            holding: HashSet::new(),
            gone: Vec::new(),
            results: Results::new(owned),
        };
        let cursors: HashMap<_, _> = state.cursors.into_iter().collect();
        for known in known {
            engine.restore(known, &cursors);
        }
        engine.restore_results(state.tried, state.retries);
        engine
    }

    fn restore_results(
        &mut self,
        tried: Vec<(SubscriptionId, Position)>,
        retries: Vec<(SubscriptionId, Position, Retry)>,
    ) {
        for (id, position) in tried {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.note_tried(position);
            }
        }
        for (id, position, retry) in retries {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.restore_retry(position, retry);
                self.due.insert((retry.due, id, position));
            }
        }
    }

    fn restore(&mut self, known: Known, cursors: &HashMap<SubscriptionId, Position>) {
        let Some(shard) = self.owned.get(&known.subscription.shard()) else { return };
        let id = known.subscription.id;
        let subscription = Arc::new(known.subscription);
        let in_force = known.versions.iter().rev().find(|version| version.since <= shard.cursor);
        if let Some(version) = in_force {
            self.matcher.set(id, &subscription.tenant, &version.event_types);
        }
        let queue = match cursors.get(&id) {
            Some(cursor) => SubscriptionQueue::behind(subscription, known.versions, *cursor),
            None => SubscriptionQueue::at_head(subscription, known.versions, shard.cursor),
        };
        self.queues.insert(id, queue);
        self.touch(id);
    }

    /// How far the log has been acted on.
    pub(super) fn processed(&self) -> Position {
        self.processed
    }

    /// How many deliveries run.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many bytes of events wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// All queues.
    pub(super) fn queues(&self) -> impl Iterator<Item = &SubscriptionQueue> {
        self.queues.values()
    }

    /// Acts on the next event of the log.
    pub(super) fn take_event(&mut self, event: &Arc<Event>) {
        self.processed = self.processed.max(event.position);
        let ids = match (event.event_type.as_str(), event.about) {
            (TEST_EVENT, about) => about.into_iter().collect(),
            (event_type, _) => self.matcher.matches(&event.tenant, event_type),
        };
        let room = self.waiting_bytes < MOST_WAITING_BYTES;
        for id in ids {
            self.with_queue(id, |queue| queue.offer(event, room));
        }
    }

    /// Acts on the log entry of a subscription's change; `None`: it is deleted, or pulled from now on.
    pub(super) fn take_change(
        &mut self,
        position: Position,
        id: SubscriptionId,
        changed: Option<Newcomer>,
    ) {
        self.processed = self.processed.max(position);
        let Some(Newcomer { known, state }) =
            changed.filter(|changed| self.owned.contains_key(&changed.known.subscription.shard()))
        else {
            self.forget(id);
            return;
        };
        let in_force = known.versions.iter().rev().find(|version| version.since <= position);
        if let Some(version) = in_force {
            self.matcher.set(id, &known.subscription.tenant, &version.event_types);
        }
        let subscription = Arc::new(known.subscription);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.change(subscription, known.versions);
        } else {
            let queue = match state.cursors.first() {
                Some((_, cursor)) => {
                    SubscriptionQueue::behind(subscription, known.versions, *cursor)
                }
                None => SubscriptionQueue::at_head(subscription, known.versions, position),
            };
            self.queues.insert(id, queue);
            self.restore_results(state.tried, state.retries);
        }
        self.touch(id);
    }

    fn forget(&mut self, id: SubscriptionId) {
        self.matcher.remove(id);
        self.holding.remove(&id);
        self.results.forget(id);
        if let Some(queue) = self.queues.remove(&id) {
            self.waiting_bytes -= queue.waiting_bytes();
            self.due.retain(|(_, other, _)| *other != id);
        }
    }

    /// Acts on the log entry that asks for one more attempt after `attempts` were made.
    pub(super) fn take_retry_request(
        &mut self,
        id: SubscriptionId,
        event: Position,
        attempts: u16,
        now: UnixMillis,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.is_under_way(event) {
            return;
        }
        let first_attempt = queue.retry(event).map_or(now, |retry| retry.first_attempt);
        let attempts = queue.retry(event).map_or(attempts, |retry| retry.attempts);
        self.schedule_retry(id, event, Retry { attempts, due: now, first_attempt });
        self.take_time(now);
    }

    /// Acts on the log entry of a subscription's expiry: nothing up to `gone` is waited for any more.
    pub(super) fn take_expiry(&mut self, id: SubscriptionId, gone: Position) {
        let mut ended = Vec::new();
        self.with_queue(id, |queue| ended = queue.expire(gone));
        for position in ended {
            self.results.retry(id, position, None);
        }
    }

    fn schedule_retry(&mut self, id: SubscriptionId, position: Position, retry: Retry) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.set_retry(position, retry);
            self.due.insert((retry.due, id, position));
            self.results.retry(id, position, Some(retry));
        }
    }

    /// Acts on the passing of time.
    pub(super) fn take_time(&mut self, now: UnixMillis) {
        self.now = now;
        while let Some((at, id)) = self.probes.first().copied().filter(|(at, _)| *at <= now) {
            self.probes.remove(&(at, id));
            self.touch(id);
        }
        while let Some((due, id, position)) =
            self.due.first().copied().filter(|(due, ..)| *due <= now)
        {
            self.due.remove(&(due, id, position));
            self.with_queue(id, |queue| {
                if queue.retry(position).is_some_and(|retry| retry.due == due) {
                    queue.fall_due(position);
                }
            });
        }
    }

    /// When time should be taken next.
    pub(super) fn next_due(&self) -> Option<UnixMillis> {
        let due = self.due.first().map(|(due, ..)| *due);
        let probe = self.probes.first().map(|(at, _)| *at);
        due.into_iter().chain(probe).min()
    }

    /// Acts on what came of an attempt.
    pub(super) fn take_outcome(&mut self, attempt: Attempt, outcome: &Outcome, now: UnixMillis) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let (id, position, number) = (attempt.subscription, attempt.position, attempt.number);
        let began = attempt.id.time();
        self.results.attempt(attempt);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let before = queue.end_attempt(position);
        let first_attempt = before.map_or(began, |retry| retry.first_attempt);
        let verdict = outcome.verdict();
        if let Some(probe) = queue.note_outcome(verdict == Verdict::Delivered, now) {
            self.probes.insert((probe, id));
        }
        let due = match verdict {
            Verdict::Delivered => None,
            Verdict::Retry { at_least } => {
                let schedule = queue.subscription.definition.retry_schedule(&self.schedule);
                schedule.next(number, first_attempt, now, at_least)
            }
            Verdict::Gone => {
                self.gone.push(id);
                Some(now)
            }
        };
        match due {
            Some(due) => {
                self.schedule_retry(id, position, Retry { attempts: number, due, first_attempt });
            }
            None if before.is_some() => self.results.retry(id, position, None),
            None => {}
        }
        self.touch(id);
    }

    /// Subscriptions that answered 410 since last asked: to be disabled. Nothing more is begun for them here.
    pub(super) fn take_gone(&mut self) -> Vec<Arc<Subscription>> {
        let gone = std::mem::take(&mut self.gone);
        gone.into_iter()
            .filter_map(|id| self.queues.get_mut(&id).and_then(SubscriptionQueue::halt))
            .collect()
    }

    /// First tries to begin now, and retries, whose events must be fetched first.
    pub(super) fn take_starts(&mut self) -> (Vec<Start>, Vec<(SubscriptionId, Position)>) {
        let (mut starts, mut fetches) = (Vec::new(), Vec::new());
        while self.in_flight < MOST_IN_FLIGHT && self.results.len() < MOST_UNRECORDED {
            let Some(id) = self.line.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.in_line = false;
            match queue.next(self.now) {
                Some(Next::First(_)) => {
                    let before = queue.waiting_bytes();
                    if let Some(event) = queue.start_first() {
                        self.in_flight += 1;
                        self.waiting_bytes -= before - queue.waiting_bytes();
                        starts.push(Start {
                            subscription: Arc::clone(&queue.subscription),
                            event,
                            number: 1,
                        });
                    }
                }
                Some(Next::Retry(_)) => {
                    if let Some(position) = queue.start_retry() {
                        self.in_flight += 1;
                        fetches.push((id, position));
                    }
                }
                None => {}
            }
            self.touch(id);
        }
        (starts, fetches)
    }

    /// The event of a retry was fetched; it begins, unless its subscription has been stopped meanwhile.
    pub(super) fn start_fetched(&mut self, id: SubscriptionId, event: Arc<Event>) -> Option<Start> {
        let started = self.queues.get_mut(&id).and_then(|queue| {
            if !queue.is_active() {
                queue.put_back_retry(event.position);
                return None;
            }
            let retry = queue.retry(event.position)?;
            let number = retry.attempts.saturating_add(1);
            Some(Start { subscription: Arc::clone(&queue.subscription), event, number })
        });
        if started.is_none() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        started
    }

    /// The event of a retry is no longer kept: the delivery ends.
    pub(super) fn end_unfetchable(&mut self, id: SubscriptionId, position: Position) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.end_attempt(position);
            self.results.retry(id, position, None);
            self.touch(id);
        }
    }

    /// The event of a retry could not be fetched for now.
    pub(super) fn put_back(&mut self, id: SubscriptionId, position: Position) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.with_queue(id, |queue| queue.put_back_retry(position));
    }

    /// The next stretch to read for a subscription that is behind.
    pub(super) fn take_reader(&mut self) -> Option<Read> {
        while self.waiting_bytes < MOST_WAITING_BYTES {
            let id = self.readers.pop_front()?;
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.in_readers = false;
            if queue.wants_read() {
                let after = queue.start_read();
                return Some(Read {
                    subscription: Arc::clone(&queue.subscription),
                    after,
                    up_to: self.processed,
                });
            }
        }
        None
    }

    /// What a read brought: all events of the log up to `scanned`, of the subscription's tenant.
    pub(super) fn take_read(
        &mut self,
        id: SubscriptionId,
        events: &[Arc<Event>],
        scanned: Position,
    ) {
        let head = self.processed;
        self.with_queue(id, |queue| queue.take_read(events, scanned, head));
    }

    /// A read that did not come about.
    pub(super) fn read_failed(&mut self, id: SubscriptionId) {
        self.with_queue(id, SubscriptionQueue::read_failed);
    }

    fn with_queue(&mut self, id: SubscriptionId, act: impl FnOnce(&mut SubscriptionQueue)) {
        if let Some(queue) = self.queues.get_mut(&id) {
            let before = queue.waiting_bytes();
            act(queue);
            self.waiting_bytes = self.waiting_bytes + queue.waiting_bytes() - before;
            self.touch(id);
        }
    }

    /// Puts a queue in line for what it can do next.
    fn touch(&mut self, id: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if !queue.in_line && queue.next(self.now).is_some() {
            queue.in_line = true;
            self.line.push_back(id);
        }
        if !queue.in_readers && queue.wants_read() {
            queue.in_readers = true;
            self.readers.push_back(id);
        }
        if queue.holds_back() || queue.is_behind() || queue.own_row.is_some() {
            self.holding.insert(id);
        } else {
            self.holding.remove(&id);
        }
    }

    /// How many results wait to be recorded.
    pub(super) fn unrecorded(&self) -> usize {
        self.results.len()
    }

    /// Whether there is anything to record.
    pub(super) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Takes what is to be recorded in one commit: results, and the cursors as they stand with them. `idle`: the
    /// cursors of shards without results too.
    pub(super) fn take_flush(&mut self, now: UnixMillis, idle: bool) -> Option<Flush> {
        let holding: Vec<_> = self.holding.iter().copied().collect();
        let queues: Vec<_> = holding.iter().filter_map(|id| self.queues.get(id)).collect();
        let flush = self.results.take(&queues, self.processed, now, idle);
        for (id, row) in flush.iter().flat_map(|flush| &flush.cursors) {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.own_row = *row;
                self.touch(*id);
            }
        }
        flush
    }
}
