//! The dispatcher's decisions, as a machine of values: events, outcomes and time go in; deliveries to begin, reads to
//! make and results to record come out. No I/O, no clock.

mod attempts;
mod breaker;
pub(super) mod effects;
mod lanes;
mod ownership;
mod pace;
mod queue;
mod receiver;
mod record;
mod replay;
mod results;
mod retries;
mod shards;
#[cfg(test)]
mod simulation;
mod unfinished;
pub(super) mod verifications;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub(crate) use self::effects::{AttemptResult, FetchEvent, ReadRange, StartAttempt};
use self::ownership::Ownership;
pub(crate) use self::queue::SubscriptionQueue;
pub(crate) use self::replay::ReadReplayRange;
use self::replay::Replay;
use self::results::Results;
use self::verifications::Handshakes;
pub(crate) use self::verifications::{VerificationResult, VerifyReceiver};
use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::delivery::shard::shard_of;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::event::Event;
use crate::domain::event::matcher::Matcher;
use crate::domain::event::page::Stretch;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::command::Command;
use crate::domain::subscription::transition::StatusTransition;
use crate::domain::subscription::version::Version;
use crate::domain::subscription::{Subscription, TEST_EVENT};
use crate::domain::time::UnixMillis;

/// How many bytes of events wait in all queues before full ones are made to read by themselves.
const MOST_WAITING_BYTES: usize = 256 << 20;

/// A subscription as its shard's owner needs it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedSubscription {
    pub(crate) subscription: Subscription,
    pub(crate) versions: Vec<Version>,
}

/// A subscription that is new to its shard's owner, or may be, with where its deliveries stand.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionSnapshot {
    /// The subscription.
    pub(crate) loaded: LoadedSubscription,
    /// Its deliveries.
    pub(crate) state: DeliveryState,
}

/// All decisions for the shards of one node.
#[derive(Debug)]
pub(crate) struct Engine {
    schedule: RetrySchedule,
    ownership: Ownership,
    queues: HashMap<SubscriptionId, SubscriptionQueue>,
    matcher: Matcher<SubscriptionId>,
    /// `None` until the first shards are owned.
    processed: Option<Position>,
    now: UnixMillis,
    in_flight: usize,
    waiting_bytes: usize,
    /// Queues that can begin something, each once.
    line: VecDeque<SubscriptionId>,
    /// Queues that want to read on.
    readers: VecDeque<SubscriptionId>,
    due: BTreeSet<(UnixMillis, SubscriptionId, Position)>,
    /// Queues to be looked at again, because time lets them go on.
    wakes: BTreeSet<(UnixMillis, SubscriptionId)>,
    /// Queues that hold the cursor back, or have one of their own.
    holding: HashSet<SubscriptionId>,
    /// Changes of status to be made.
    turns: Vec<(Arc<Subscription>, StatusTransition)>,
    /// Deliveries that were given up.
    exhausted: Vec<Exhausted>,
    /// Receivers that are to agree first.
    handshakes: Handshakes,
    /// Replays of these subscriptions that go on.
    replays: BTreeMap<ReplayId, Replay>,
    results: Results,
}

impl Engine {
    /// The machine of a node that owns no shards yet.
    pub(crate) fn new(schedule: RetrySchedule) -> Self {
        Self {
            schedule,
            ownership: Ownership::default(),
            queues: HashMap::new(),
            matcher: Matcher::default(),
            processed: None,
            now: UnixMillis::EPOCH,
            in_flight: 0,
            waiting_bytes: 0,
            line: VecDeque::new(),
            readers: VecDeque::new(),
            due: BTreeSet::new(),
            wakes: BTreeSet::new(),
            holding: HashSet::new(),
            turns: Vec::new(),
            exhausted: Vec::new(),
            handshakes: Handshakes::default(),
            replays: BTreeMap::new(),
            results: Results::default(),
        }
    }

    /// Has the patterns that hold at `position` matched.
    fn put_in_force(&mut self, loaded: &LoadedSubscription, position: Position) {
        let in_force = loaded.versions.iter().rev().find(|version| version.since <= position);
        if let Some(version) = in_force {
            let (id, tenant) = (loaded.subscription.id, &loaded.subscription.tenant);
            self.matcher.set(id, tenant, &version.event_types);
        }
    }

    fn restore_results(
        &mut self,
        tried: Vec<(SubscriptionId, Position)>,
        retries: Vec<(SubscriptionId, Position, Retry)>,
        replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    ) {
        for (id, position) in tried {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.note_tried(position);
            }
        }
        for (id, position, retry) in retries {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.add_retry(position, retry);
                self.due.insert((retry.due, id, position));
            }
        }
        self.restore_replays(replays);
    }

    /// How far the log has been acted on; `None` before the first shards are owned.
    pub(crate) fn processed(&self) -> Option<Position> {
        self.processed
    }

    fn head(&self) -> Position {
        self.processed.unwrap_or_default()
    }

    /// How many deliveries run.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many bytes of events wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// All queues.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &SubscriptionQueue> {
        self.queues.values()
    }

    /// Acts on the next event of the log.
    pub(crate) fn handle_event(&mut self, event: &Arc<Event>) {
        self.processed = self.processed.max(Some(event.position));
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
    pub(crate) fn handle_change(
        &mut self,
        position: Position,
        id: SubscriptionId,
        snapshot: Option<SubscriptionSnapshot>,
    ) {
        self.processed = self.processed.max(Some(position));
        let Some(SubscriptionSnapshot { loaded, state }) =
            snapshot.filter(|snapshot| self.ownership.has(snapshot.loaded.subscription.shard()))
        else {
            self.forget(id);
            return;
        };
        self.put_in_force(&loaded, position);
        let subscription = Arc::new(loaded.subscription);
        self.look_for_handshake(&subscription);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.change(subscription, loaded.versions);
        } else {
            let queue = match state.cursors.first() {
                Some((_, cursor)) => {
                    SubscriptionQueue::behind(subscription, loaded.versions, *cursor, true)
                }
                None => SubscriptionQueue::at_head(subscription, loaded.versions, position),
            };
            self.queues.insert(id, queue);
            self.restore_results(state.tried, state.retries, state.replays);
        }
        self.touch(id);
    }

    fn forget(&mut self, id: SubscriptionId) {
        self.matcher.remove(id);
        self.holding.remove(&id);
        self.handshakes.forget(id);
        self.results.forget(id);
        self.replays.retain(|_, replay| !replay.is_of(id));
        if let Some(queue) = self.queues.remove(&id) {
            self.waiting_bytes -= queue.lines.counted_bytes;
            self.due.retain(|(_, other, _)| *other != id);
        }
    }

    /// Acts on the log entry that asks for something.
    pub(crate) fn handle_request(
        &mut self,
        id: SubscriptionId,
        request: &Command,
        now: UnixMillis,
    ) {
        match request {
            Command::Retry(asked) => self.retry_once_more(id, asked.event, asked.attempts, now),
            Command::Replay(replay, asked) => self.take_replay(*replay, id, asked),
            Command::CancelReplay(cancelled) => self.cancel_replay(cancelled.replay),
            Command::Expire(expiry) => self.expire(id, expiry.to),
            Command::Verify => self.handshakes.ask_again(id, now),
        }
    }

    /// Nothing up to `gone` is waited for any more.
    fn expire(&mut self, id: SubscriptionId, gone: Position) {
        let mut ended = Vec::new();
        self.with_queue(id, |queue| ended = queue.expire(gone));
        for position in ended {
            self.results.retry(id, position, None);
        }
    }

    fn retry_once_more(
        &mut self,
        id: SubscriptionId,
        event: Position,
        attempts: u16,
        now: UnixMillis,
    ) {
        let Some(queue) = self.queues.get_mut(&id).filter(|queue| !queue.is_under_way(event))
        else {
            return;
        };
        // One more attempt than there would be is in no order.
        let fresh = Retry { attempts, due: now, first_attempt: now, order_key: None };
        let retry = Retry { due: now, ..queue.retry(event).unwrap_or(fresh) };
        queue.add_retry(event, retry);
        self.record_retry(id, event, retry);
        self.handle_time(now);
    }

    fn record_retry(&mut self, id: SubscriptionId, position: Position, retry: Retry) {
        self.due.insert((retry.due, id, position));
        self.results.retry(id, position, Some(retry));
    }

    /// Acts on the passing of time.
    pub(crate) fn handle_time(&mut self, now: UnixMillis) {
        self.now = now;
        self.handshakes.handle_time(now);
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.lines.wakes_at = None;
                self.touch(id);
            }
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
    pub(crate) fn poll_timeout(&self) -> Option<UnixMillis> {
        let due = self.due.first().map(|(due, ..)| *due);
        let wake = self.wakes.first().map(|(at, _)| *at);
        let handshake = self.handshakes.next_due();
        due.into_iter().chain(wake).chain(handshake).chain(self.ownership.next_deadline()).min()
    }

    /// The next stretch to read for a subscription that is behind.
    pub(crate) fn poll_read(&mut self) -> Option<ReadRange> {
        while self.waiting_bytes < MOST_WAITING_BYTES {
            let id = self.readers.pop_front()?;
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.lines.to_read = false;
            if queue.wants_read() {
                let after = queue.start_read();
                return Some(ReadRange {
                    subscription: Arc::clone(&queue.subscription),
                    after,
                    up_to: self.head(),
                });
            }
        }
        None
    }

    /// What a read brought: the events of the subscription's tenant as far as it was looked at.
    pub(crate) fn handle_read(&mut self, read: &ReadRange, stretch: &Stretch) {
        let scanned =
            if stretch.complete { read.up_to.max(stretch.scanned) } else { stretch.scanned };
        let (id, head) = (read.subscription.id, self.head());
        self.with_queue(id, |queue| queue.handle_read(read.after, &stretch.events, scanned, head));
        for event in stretch.events.iter().filter(|event| event.about == Some(id)) {
            let is_missed = self.queues.get(&id).is_some_and(|queue| queue.missed(event.position));
            if let Some(request) = Command::from_event(event).filter(|_| is_missed) {
                self.handle_request(id, &request, self.now);
            }
        }
    }

    /// A read that did not come about.
    pub(crate) fn handle_read_error(&mut self, id: SubscriptionId) {
        self.with_queue(id, SubscriptionQueue::handle_read_error);
    }

    fn with_queue(&mut self, id: SubscriptionId, act: impl FnOnce(&mut SubscriptionQueue)) {
        if let Some(queue) = self.queues.get_mut(&id) {
            act(queue);
            self.touch(id);
        }
    }

    /// Puts a queue in line for what it can do next, and counts what waits in it. Whatever changes a queue ends here.
    fn touch(&mut self, id: SubscriptionId) {
        self.put_in_line(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            self.waiting_bytes =
                self.waiting_bytes + queue.waiting_bytes() - queue.lines.counted_bytes;
            queue.lines.counted_bytes = queue.waiting_bytes();
        }
    }

    fn put_in_line(&mut self, id: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.holds_cursor() || queue.is_lagging() || queue.own_row.is_some() {
            self.holding.insert(id);
        } else {
            self.holding.remove(&id);
        }
        if !self.ownership.may_begin(shard_of(id)) {
            return;
        }
        if !queue.lines.to_read && queue.wants_read() {
            queue.lines.to_read = true;
            self.readers.push_back(id);
        }
        if queue.lines.to_begin {
            return;
        }
        if queue.can_begin(self.now) {
            queue.lines.to_begin = true;
            self.line.push_back(id);
        } else if let Some(at) = queue.goes_on_at(self.now)
            && queue.lines.wakes_at.is_none_or(|known| at < known)
        {
            queue.lines.wakes_at = Some(at);
            self.wakes.insert((at, id));
        }
    }
}
