//! A simulated hub around the engine: the log, the tables of the database, the receivers and the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{
    AttemptResult, Engine, LoadedSubscription, StartAttempt, SubscriptionQueue,
    SubscriptionSnapshot,
};
use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::Outcome;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::delivery::shard::{OwnedShard, SHARDS, shard_of};
use crate::domain::delivery::state::DeliveryState;
use crate::domain::event::event_type::EventType;
use crate::domain::event::page::Stretch;
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::{AttemptId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::signing::Signing;
use crate::domain::signing::secret::Secret;
use crate::domain::subscription::channel::{Channel, DeliverySettings, Webhook, WebhookSettings};
use crate::domain::subscription::version::{Version, matches_event};
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::domain::time::UnixMillis;

/// A few events of this size fill a queue, so that subscriptions lag.
const DATA_BYTES: usize = 300 << 10;

const STATUSES: [Status; 4] = [Status::Active, Status::Active, Status::Paused, Status::Unverified];

#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish(usize),
    Respond(usize, u16),
    Time(u64),
    Read,
    Flush,
    Crash,
    HandOver(usize),
    SetStatus(usize, Status),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6usize).prop_map(Step::Publish),
        8 => (any::<usize>(), prop_oneof![4 => Just(204u16), 3 => Just(500)]).prop_map(|(index, status)| Step::Respond(index, status)),
        2 => (1..5_000u64).prop_map(Step::Time),
        3 => Just(Step::Read),
        3 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => (1..100usize).prop_map(Step::HandOver),
        1 => (0..4usize, prop::sample::select(&STATUSES)).prop_map(|(index, status)| Step::SetStatus(index, status)),
    ]
}

/// The tables of the database.
#[derive(Default)]
pub(super) struct Tables {
    cursors: BTreeMap<u16, Position>,
    attempts: BTreeMap<(SubscriptionId, Position, u16), u16>,
    pub(super) retries: BTreeMap<(SubscriptionId, Position), Retry>,
    pub(super) rows: BTreeMap<SubscriptionId, Position>,
    terms: BTreeMap<u16, i64>,
}

pub(super) struct World {
    now: UnixMillis,
    pub(super) log: Vec<Arc<Event>>,
    pub(super) subscriptions: Vec<LoadedSubscription>,
    pub(super) tables: Tables,
    engine: Engine,
    pub(super) running: Vec<StartAttempt>,
    pub(super) arrived: HashMap<(SubscriptionId, Position), usize>,
    order: HashMap<SubscriptionId, Vec<Position>>,
    pub(super) crashes: usize,
}

pub(super) fn schedule() -> RetrySchedule {
    RetrySchedule {
        steps: vec![Duration::from_secs(1)],
        give_up_after: Duration::from_secs(1_000_000),
    }
}

pub(super) fn subscription(
    number: i64,
    pattern: &str,
    ordered: bool,
    order_by: Option<&str>,
) -> LoadedSubscription {
    let delivery = DeliverySettings {
        ordered,
        order_by: order_by.map(|pointer| pointer.parse().unwrap()),
        max_in_flight: 2,
        ..DeliverySettings::default()
    };
    let signing = Signing::new(Secret::from_random([1; 32]));
    let definition = Definition {
        event_types: vec![pattern.parse().unwrap()],
        channel: Channel::Webhook(Webhook {
            url: "https://example.com/".parse().unwrap(),
            verification: None,
            settings: WebhookSettings { delivery, ..WebhookSettings::new(signing) },
        }),
        description: None,
        metadata: BTreeMap::new(),
    };
    let event_types: Arc<[_]> = definition.event_types.clone().into();
    let subscription = Subscription {
        id: SubscriptionId::new(UnixMillis::from_i64(number), 0),
        tenant: "t".into(),
        definition,
        status: Status::Active,
        disabled_reason: None,
        changed_at: Position::START,
    };
    LoadedSubscription {
        subscription,
        versions: vec![Version { since: Position::START, event_types }],
    }
}

pub(super) fn all_shards() -> Vec<u16> {
    (0..SHARDS).collect()
}

impl World {
    pub(super) fn new() -> Self {
        let subscriptions = vec![
            subscription(1, "*", false, None),
            subscription(2, "a.*", true, None),
            subscription(3, "a.b", false, None),
            subscription(4, "*", false, Some("/k")),
        ];
        let now = UnixMillis::from_i64(1_763_900_000_000);
        let tables = Tables::default();
        let (log, running, arrived, order) =
            (Vec::new(), Vec::new(), HashMap::new(), HashMap::new());
        let engine = Engine::new(schedule());
        let mut world =
            Self { now, log, subscriptions, tables, engine, running, arrived, order, crashes: 0 };
        world.acquire(&all_shards());
        world
    }

    /// Lets the engine acquire shards from the tables, as a new owner does.
    fn acquire(&mut self, shards: &[u16]) {
        let tables = &mut self.tables;
        let mut owned = Vec::new();
        for shard in shards {
            let term = tables.terms.entry(*shard).or_default();
            *term += 1;
            let cursor = tables.cursors.get(shard).copied().unwrap_or_default();
            owned.push(OwnedShard { shard: *shard, term: *term, cursor });
        }
        let known: Vec<LoadedSubscription> = self
            .subscriptions
            .iter()
            .filter(|known| shards.contains(&known.subscription.shard()))
            .cloned()
            .collect();
        let ids: Vec<_> = known.iter().map(|known| known.subscription.id).collect();
        let tables = &self.tables;
        let start = |id: SubscriptionId| {
            let shard = tables.cursors.get(&shard_of(id)).copied().unwrap_or_default();
            tables.rows.get(&id).copied().unwrap_or(shard)
        };
        let attempted: BTreeSet<_> = tables
            .attempts
            .keys()
            .filter(|(id, at, _)| ids.contains(id) && *at > start(*id))
            .map(|(id, at, _)| (*id, *at))
            .collect();
        let mine = |id: &SubscriptionId| ids.contains(id);
        let state = DeliveryState {
            cursors: tables
                .rows
                .iter()
                .filter(|(id, _)| mine(id))
                .map(|(id, at)| (*id, *at))
                .collect(),
            retries: tables
                .retries
                .iter()
                .filter(|((id, _), _)| mine(id))
                .map(|((id, at), retry)| (*id, *at, *retry))
                .collect(),
            attempted: attempted.into_iter().collect(),
            replays: Vec::new(),
        };
        self.engine.handle_shards_acquired(&owned, known, state);
    }

    /// Hands `count` shards over, whatever runs, and acquires them again as another node would.
    fn hand_over(&mut self, count: usize) {
        self.engine.begin_handover(count, self.now);
        self.flush(true);
        let left = self.engine.poll_released_shards(self.now);
        let shards: Vec<u16> = left.iter().map(|(shard, _)| *shard).collect();
        let cut_off = |start: &StartAttempt| shards.contains(&start.subscription.shard());
        self.crashes += usize::from(self.running.iter().any(cut_off));
        self.acquire(&shards);
    }

    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Publish(kind) => self.publish(["a.b", "a.c", "b"][kind % 3], kind / 3),
            Step::Respond(index, status) if !self.running.is_empty() => {
                let start = self.running.remove(index % self.running.len());
                self.respond(&start, *status);
            }
            Step::Respond(..) => {}
            Step::Time(millis) => self.now = self.now.after(Duration::from_millis(*millis)),
            Step::Read => self.read(),
            Step::Flush => self.flush(false),
            Step::Crash => {
                self.crashes += 1;
                self.running.clear();
                self.engine = Engine::new(schedule());
                self.acquire(&all_shards());
                let processed = self.engine.processed().unwrap();
                for event in self.log.iter().filter(|event| event.position > processed) {
                    self.engine.handle_event(event);
                }
            }
            Step::HandOver(count) => self.hand_over(*count),
            Step::SetStatus(index, status) => {
                self.subscriptions[*index].subscription.status = *status;
                let known = self.subscriptions[*index].clone();
                self.engine.handle_change(
                    self.engine.processed().unwrap(),
                    known.subscription.id,
                    Some(SubscriptionSnapshot { loaded: known, state: DeliveryState::default() }),
                );
            }
        }
        self.start();
        let waiting: usize = self.engine.queues().map(SubscriptionQueue::waiting_bytes).sum();
        assert_eq!(self.engine.waiting_bytes(), waiting, "all waiting bytes are counted");
    }

    fn publish(&mut self, event_type: &str, key: usize) {
        self.now = self.now.after(Duration::from_millis(1));
        let new = NewEvent {
            event_type: EventType::from_stored(event_type),
            about: None,
            occurred_at: None,
            data: Bytes::from(format!(r#"{{"k":{key},"pad":"{}"}}"#, "1".repeat(DATA_BYTES))),
        };
        let event =
            Arc::new(Event::at(Position::before_time(self.now).advanced(1), &"t".into(), &new));
        self.engine.handle_event(&event);
        self.log.push(event);
    }

    pub(super) fn start(&mut self) {
        self.engine.handle_time(self.now);
        let (starts, fetches) = self.engine.poll_attempts();
        self.running.extend(starts);
        for fetch in fetches {
            let event = self.log.iter().find(|event| event.position == fetch.position).unwrap();
            self.running.extend(self.engine.handle_fetched(fetch, Arc::clone(event)));
        }
    }

    pub(super) fn respond(&mut self, start: &StartAttempt, status: u16) {
        let (id, position) = (start.subscription.id, start.event.position);
        if status == 204 {
            *self.arrived.entry((id, position)).or_default() += 1;
            self.order.entry(id).or_default().push(position);
        }
        let attempt = Attempt {
            id: AttemptId::new(self.now, 0),
            subscription: id,
            position,
            number: start.number,
            latency_ms: 1,
            status: Some(status),
            error: None,
            response: None,
        };
        let outcome = Outcome::Answered { status, retry_after: None };
        self.engine.handle_outcome(AttemptResult { attempt, outcome, term: start.term }, self.now);
        for (subscription, _) in self.engine.poll_transitions() {
            self.engine.handle_transition_applied(subscription.id);
        }
    }

    fn read(&mut self) {
        while let Some(read) = self.engine.poll_read() {
            let range = self
                .log
                .iter()
                .filter(|event| event.position > read.after && event.position <= read.up_to);
            let all: Vec<_> = range.cloned().collect();
            let some: Vec<_> = all.iter().take(3).cloned().collect();
            let (complete, scanned) =
                (some.len() == all.len(), some.last().map_or(read.after, |last| last.position));
            self.engine.handle_read(&read, &Stretch { events: some, scanned, complete });
        }
    }

    pub(super) fn flush(&mut self, is_idle: bool) {
        let Some(flush) = self.engine.poll_flush(self.now, is_idle) else { return };
        let Flush { shards, attempts, retries, cursors, .. } = flush;
        let fenced: BTreeSet<u16> = shards.iter().map(|(shard, ..)| *shard).collect();
        for (shard, _, cursor) in shards {
            let current = self.tables.cursors.entry(shard).or_default();
            *current = cursor.max(*current);
        }
        for attempt in attempts {
            assert!(
                fenced.contains(&shard_of(attempt.subscription)),
                "every write names its shard's term"
            );
            let key = (attempt.subscription, attempt.position, attempt.number);
            self.tables.attempts.entry(key).or_insert(attempt.status.unwrap());
        }
        for (id, position, retry) in retries {
            assert!(fenced.contains(&shard_of(id)), "every write names its shard's term");
            match retry {
                Some(retry) => self.tables.retries.insert((id, position), retry),
                None => self.tables.retries.remove(&(id, position)),
            };
        }
        for (id, row) in cursors {
            assert!(fenced.contains(&shard_of(id)), "every write names its shard's term");
            match row {
                Some(position) => self.tables.rows.insert(id, position),
                None => self.tables.rows.remove(&id),
            };
        }
        self.check_cursors();
        self.check_recorded(is_idle);
    }

    /// Invariant 4: a cursor passes an event only once it is delivered or its retry is recorded.
    fn check_cursors(&self) {
        for known in &self.subscriptions {
            let id = known.subscription.id;
            let shard = self.tables.cursors.get(&shard_of(id)).copied().unwrap_or_default();
            let cursor = self.tables.rows.get(&id).copied().unwrap_or(shard);
            for event in self
                .log
                .iter()
                .filter(|event| event.position <= cursor && Self::matches(known, event))
            {
                let of_pair = (id, event.position, 0)..=(id, event.position, u16::MAX);
                let delivered =
                    self.tables.attempts.range(of_pair).any(|(_, status)| *status == 204);
                let waits = self.tables.retries.contains_key(&(id, event.position));
                assert!(
                    delivered || waits,
                    "{id} passed {} without a delivery or a retry",
                    event.position
                );
            }
        }
    }

    /// The recorded cursors are those that a scan of all queues finds.
    fn check_recorded(&self, is_idle: bool) {
        let head = self.engine.head();
        let recorded = |shard| self.tables.cursors.get(&shard).copied().unwrap_or_default();
        let mut shards: BTreeMap<u16, Position> =
            self.engine.shards().into_iter().map(|shard| (shard, head)).collect();
        for queue in self.engine.queues() {
            let (id, cursor) = (queue.id(), queue.cursor(head));
            assert_eq!(queue.recorded.own, self.tables.rows.get(&id).copied());
            if queue.recorded.own.is_some() {
                assert_eq!(queue.recorded.own, Some(cursor), "{id} has an outdated cursor");
                let is_needed = queue.is_lagging() || cursor < recorded(shard_of(id));
                assert!(is_needed || !is_idle, "{id} needs no cursor of its own");
            } else {
                let is_short = self.now.since(cursor.time()) <= Duration::from_secs(2);
                assert!(!queue.is_lagging() && (is_short || !queue.holds_cursor()), "{id}");
                let shard = shards.entry(shard_of(id)).or_default();
                *shard = cursor.min(*shard);
            }
        }
        for (shard, position) in shards.into_iter().filter(|_| is_idle) {
            assert!(recorded(shard) >= position, "the cursor of shard {shard} has not moved");
        }
    }

    fn matches(known: &LoadedSubscription, event: &Event) -> bool {
        matches_event(event, known.subscription.id, "t", &known.versions)
    }

    /// Resumes every subscription and lets every receiver answer 204, until nothing is left to do.
    pub(super) fn quiesce(&mut self) {
        for index in 0..self.subscriptions.len() {
            self.run(&Step::SetStatus(index, Status::Active));
        }
        for _ in 0..10_000 {
            self.run(&Step::Time(2_000));
            self.run(&Step::Read);
            while !self.running.is_empty() {
                self.run(&Step::Respond(0, 204));
            }
            self.flush(true);
            if self.tables.retries.is_empty() && self.all_arrived() && self.tables.rows.is_empty() {
                return;
            }
        }
    }

    /// Whether the events of each order key arrived in the log's order.
    pub(super) fn is_in_order(&self, known: &LoadedSubscription) -> bool {
        let mut by_key: HashMap<i64, Vec<Position>> = HashMap::new();
        for position in self.order.get(&known.subscription.id).into_iter().flatten() {
            let event = self.log.iter().find(|event| event.position == *position).unwrap();
            if let Some(key) = known.subscription.definition.delivery().order_key(event) {
                by_key.entry(key).or_default().push(*position);
            }
        }
        by_key.values().all(|order| order.is_sorted())
    }

    pub(super) fn all_arrived(&self) -> bool {
        let pairs = self
            .subscriptions
            .iter()
            .flat_map(|known| self.log.iter().map(move |event| (known, event)));
        let mut matching = pairs.filter(|(known, event)| Self::matches(known, event));
        matching.all(|(known, event)| {
            self.arrived.contains_key(&(known.subscription.id, event.position))
        })
    }
}
