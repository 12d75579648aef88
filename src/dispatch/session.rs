//! The dispatcher at work on the shards it owns: a loop that feeds the engine and carries out what it decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deliver::{Deliverer, Exchange};
use super::disable;
use super::engine::{Engine, Read, Start};
use super::feed::{self, Item};
use super::lease::Lease;
use super::watch::Watch;
use crate::log::Log;
use crate::store::deliveries::{Attempt, Flush};
use crate::store::log::{Scan, Stretch};
use crate::store::{Store, StoreError};
use crate::values::event::Event;
use crate::values::id::{AttemptId, SubscriptionId};
use crate::values::outcome::Outcome;
use crate::values::position::Position;
use crate::values::retry::reconnect_waits;
use crate::values::time::UnixMillis;

/// Results are recorded together: so long after the first, or when there are so many.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
const FLUSH_AT: usize = 500;
/// How often cursors are recorded that moved without results.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// How many subscriptions that are behind read at the same time.
const MOST_READERS: usize = 4;
/// How much one of them reads at a time.
const READ: (u16, u32) = (2_000, 1 << 20);
/// Outcomes that wait to be acted on; more than run at once.
const MESSAGES: usize = 8_192;

/// What comes back from the tasks that carry things out.
enum Message {
    Ended(Attempt, Outcome),
    Fetched(Vec<(SubscriptionId, Position)>, Result<Vec<Arc<Event>>, StoreError>),
    Read(SubscriptionId, Position, Result<Stretch, StoreError>),
    Flushed(Vec<u16>, usize),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As asked; so many deliveries were still running when the deadline came.
    Stopped(usize),
    /// Another node owns a shard by now.
    Superseded,
}

/// What a session works with.
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) log: Log,
    pub(super) store: Store,
    pub(super) deliverer: Deliverer,
    pub(super) lease: Lease,
    pub(super) tasks: TaskTracker,
}

/// A session under way.
struct Running {
    session: Session,
    items: mpsc::Receiver<Vec<Item>>,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    attempts_begun: u32,
    readers: usize,
    flushing: bool,
    flush_at: Option<Instant>,
    idle_flush_at: Instant,
    superseded: bool,
    stopping: Option<Instant>,
    ended: CancellationToken,
    watch: Watch,
}

impl Session {
    /// Works until `stop`, then lets what runs come to an end for at most `deadline`.
    pub(super) async fn run(self, stop: CancellationToken, deadline: Duration) -> End {
        let (sender, messages) = mpsc::channel(MESSAGES);
        let (item_sender, items) = mpsc::channel(4);
        let feed =
            feed::run(self.log.clone(), self.store.clone(), self.engine.processed(), item_sender);
        self.tasks.spawn(feed);
        let watch = Watch::new(Arc::clone(self.log.measures()));
        let mut running = Running {
            session: self,
            items,
            messages,
            sender,
            attempts_begun: 0,
            readers: 0,
            flushing: false,
            flush_at: None,
            idle_flush_at: Instant::now() + IDLE_FLUSH,
            superseded: false,
            stopping: None,
            ended: CancellationToken::new(),
            watch,
        };
        let ended = running.ended.clone().drop_guard();
        let end = running.work(stop, deadline).await;
        running.session.log.set_dispatched(None);
        drop(ended);
        end
    }
}

impl Running {
    async fn work(&mut self, stop: CancellationToken, deadline: Duration) -> End {
        let mut buffer = Vec::new();
        let mut lease = self.session.lease.clone();
        loop {
            self.act();
            if let Some(end) = self.end() {
                return end;
            }
            let wake = self.wake_at();
            tokio::select! {
                Some(items) = self.items.recv(), if self.stopping.is_none() => self.take_items(items),
                _ = self.messages.recv_many(&mut buffer, 256) => {
                    for message in buffer.drain(..) {
                        self.take(message);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                _ = lease.renewed() => {}
                () = stop.cancelled(), if self.stopping.is_none() => self.stopping = Some(Instant::now() + deadline),
            }
        }
    }

    /// Whether there is nothing more to do here.
    fn end(&self) -> Option<End> {
        if self.superseded {
            return Some(End::Superseded);
        }
        let deadline = self.stopping?;
        let settled = self.session.engine.in_flight() == 0
            && !self.flushing
            && !self.session.engine.has_results();
        (settled || Instant::now() >= deadline)
            .then(|| End::Stopped(self.session.engine.in_flight()))
    }

    fn wake_at(&self) -> Instant {
        let now = UnixMillis::now();
        let due = self.session.engine.next_due().map(|due| Instant::now() + due.since(now));
        let flush = [self.flush_at, Some(self.idle_flush_at)].into_iter().flatten().min();
        // While a flush is under way, its end wakes the loop.
        let flush = flush.filter(|_| !self.flushing);
        let longest = Instant::now() + IDLE_FLUSH;
        [due, flush, self.stopping].into_iter().flatten().fold(longest, Instant::min)
    }

    /// Carries out all that the engine has decided.
    fn act(&mut self) {
        self.session.engine.take_time(UnixMillis::now());
        if self.stopping.is_none() && self.session.lease.holds() {
            let (starts, fetches) = self.session.engine.take_starts();
            for start in starts {
                self.start(start);
            }
            if !fetches.is_empty() {
                self.fetch(fetches);
            }
            while self.readers < MOST_READERS {
                let Some(read) = self.session.engine.take_reader() else { break };
                self.read(read);
            }
        }
        for subscription in self.session.engine.take_gone() {
            self.spawn(disable::gone(
                self.session.log.clone(),
                self.session.store.clone(),
                subscription,
            ));
        }
        self.flush_when_due();
        self.watch.look(&self.session.engine);
    }

    fn take_items(&mut self, items: Vec<Item>) {
        let engine = &mut self.session.engine;
        for item in items {
            match item {
                Item::Event(event) => engine.take_event(&event),
                Item::Change(event, id, changed) => {
                    // The entry itself is still under the patterns before it.
                    engine.take_event(&event);
                    engine.take_change(event.position, id, changed.map(|changed| *changed));
                }
                Item::RetryRequest(event, id, request) => {
                    engine.take_event(&event);
                    if let Ok(position) = request.event.parse() {
                        engine.take_retry_request(
                            id,
                            position,
                            request.attempts,
                            UnixMillis::now(),
                        );
                    }
                }
                Item::Expiry(event, id, expiry) => {
                    engine.take_event(&event);
                    if let Ok(gone) = expiry.to.parse() {
                        engine.take_expiry(id, gone);
                    }
                }
            }
        }
        self.session.log.set_dispatched(Some(engine.processed()));
    }

    fn take(&mut self, message: Message) {
        let engine = &mut self.session.engine;
        match message {
            Message::Ended(attempt, outcome) => {
                let now = UnixMillis::now();
                self.watch.ended(&attempt, &outcome, now);
                engine.take_outcome(attempt, &outcome, now);
            }
            Message::Fetched(wanted, Ok(events)) => {
                for (id, position) in wanted {
                    match events.iter().find(|event| event.position == position) {
                        Some(event) => {
                            if let Some(start) =
                                self.session.engine.start_fetched(id, Arc::clone(event))
                            {
                                self.start(start);
                            }
                        }
                        None => self.session.engine.end_unfetchable(id, position),
                    }
                }
            }
            Message::Fetched(wanted, Err(error)) => {
                tracing::warn!(%error, "cannot read events that are to be tried again");
                for (id, position) in wanted {
                    engine.put_back(id, position);
                }
            }
            Message::Read(id, up_to, read) => {
                self.readers -= 1;
                match read {
                    Ok(stretch) => {
                        let scanned = if stretch.complete {
                            up_to.max(stretch.scanned)
                        } else {
                            stretch.scanned
                        };
                        engine.take_read(id, &stretch.events, scanned);
                    }
                    Err(error) => {
                        tracing::warn!(%error, subscription = %id, "cannot read on for a subscription that is behind");
                        engine.read_failed(id);
                    }
                }
            }
            Message::Flushed(owned, shards) => {
                self.flushing = false;
                self.watch.flush_ended();
                self.superseded |= owned.len() < shards;
            }
        }
    }

    /// Carries something out for as long as this session lasts.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.session.tasks.spawn(async move { ended.run_until_cancelled(task).await });
    }

    /// Begins a POST.
    fn start(&mut self, start: Start) {
        let deliverer = self.session.deliverer.clone();
        let sender = self.sender.clone();
        self.attempts_begun = self.attempts_begun.wrapping_add(1);
        let counter = self.attempts_begun;
        self.spawn(async move {
            let Start { subscription, event, number } = start;
            let (now, began) = (UnixMillis::now(), Instant::now());
            let Exchange { outcome, response } =
                deliverer.post(&subscription, &event, number, now).await;
            let (status, error) = match outcome {
                Outcome::Answered { status, .. } => (Some(status), None),
                Outcome::Failed(class) => (None, Some(class)),
            };
            let attempt = Attempt {
                id: AttemptId::new(now, counter),
                subscription: subscription.id,
                position: event.position,
                number,
                latency_ms: u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX),
                status,
                error,
                response,
            };
            // Nobody listens any more after a session's end; the attempt is then made again by the next owner.
            drop(sender.send(Message::Ended(attempt, outcome)).await);
        });
    }

    /// Fetches the events of retries.
    fn fetch(&self, wanted: Vec<(SubscriptionId, Position)>) {
        let (store, sender) = (self.session.store.clone(), self.sender.clone());
        self.spawn(async move {
            let positions: Vec<i64> =
                wanted.iter().map(|(_, position)| position.stored()).collect();
            let events = store.events_at(&positions, None).await;
            if events.is_err() {
                tokio::time::sleep(IDLE_FLUSH / 10).await;
            }
            drop(sender.send(Message::Fetched(wanted, events)).await);
        });
    }

    /// Reads on for a subscription that is behind.
    fn read(&mut self, read: Read) {
        self.readers += 1;
        let (log, sender) = (self.session.log.clone(), self.sender.clone());
        self.spawn(async move {
            let Read { subscription, after, up_to } = read;
            let (events, bytes) = READ;
            let scan = Scan { after, up_to, tenant: Some(&subscription.tenant), events, bytes };
            let stretch = log.read_after(scan).await;
            if stretch.is_err() {
                tokio::time::sleep(IDLE_FLUSH / 10).await;
            }
            drop(sender.send(Message::Read(subscription.id, up_to, stretch)).await);
        });
    }

    /// Records results when enough have come together, or their time has come; one commit at a time.
    fn flush_when_due(&mut self) {
        let now = Instant::now();
        if self.session.engine.has_results() && self.flush_at.is_none() {
            self.flush_at = Some(now + FLUSH_AFTER);
        }
        let idle = now >= self.idle_flush_at || self.stopping.is_some();
        let due = self.flush_at.is_some_and(|at| now >= at)
            || self.session.engine.unrecorded() >= FLUSH_AT
            || idle;
        if self.flushing || !due {
            return;
        }
        self.flush_at = None;
        if idle {
            self.idle_flush_at = now + IDLE_FLUSH;
        }
        if let Some(flush) = self.session.engine.take_flush(UnixMillis::now(), idle) {
            self.flushing = true;
            self.watch.flush_begins(&flush);
            self.spawn(record(self.session.store.clone(), flush, self.sender.clone()));
        }
    }
}

/// Writes a flush, however long the database stays away.
async fn record(store: Store, flush: Flush, sender: mpsc::Sender<Message>) {
    let mut waits = reconnect_waits();
    loop {
        match store.flush(&flush).await {
            Ok(owned) => {
                drop(sender.send(Message::Flushed(owned, flush.shards.len())).await);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot record results; trying again");
                tokio::time::sleep(waits.next().unwrap_or(IDLE_FLUSH)).await;
            }
        }
    }
}
