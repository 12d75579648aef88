//! The dispatcher at work: a loop that feeds the engine and carries out what it decides.

pub(crate) mod effects;
pub(crate) mod exhausted;
pub(crate) mod feed;
pub(crate) mod lease;
pub(crate) mod metrics;
pub(crate) mod sharding;
pub(crate) mod status_transition;
pub(crate) mod verifications;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::effects::Message;
use self::feed::Item;
use self::lease::Lease;
use self::metrics::Watch;
use super::engine::{Engine, FetchEvent, StartAttempt};
use super::verification::Verifier;
use super::webhook::Deliverer;
use crate::domain::event::Event;
use crate::domain::time::UnixMillis;
use crate::log::Log;
use crate::metrics::Measures;
use crate::store::nodes::Identity;
use crate::store::{Store, StoreError};

/// Results are recorded together: so long after the first, or when there are so many.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
const FLUSH_AT: usize = 500;
/// How often cursors are recorded that moved without results.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// How many subscriptions that are behind read at the same time.
const MOST_READERS: usize = 4;
/// Messages that wait to be acted on; more than run at once.
const MESSAGES: usize = 8_192;

/// What a session works with.
pub(crate) struct Session {
    pub(crate) node: Uuid,
    pub(crate) engine: Engine,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Measures>,
    pub(crate) deliverer: Deliverer,
    pub(crate) verifier: Verifier,
    pub(crate) lease: Lease,
    pub(crate) tasks: TaskTracker,
}

/// A session under way.
struct Running {
    session: Session,
    /// The log, from the first shard on.
    items: Option<mpsc::Receiver<Vec<Item>>>,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    attempts_begun: u32,
    readers: usize,
    nodes: usize,
    share_at: Instant,
    is_sharing: bool,
    /// Shards are taken, and not yet known: meanwhile the log is not acted on, so that no change of theirs is missed.
    is_loading: bool,
    is_flushing: bool,
    flush_at: Option<Instant>,
    idle_flush_at: Instant,
    server: Option<Identity>,
    /// A stop has begun; it is over by then.
    stopping: Option<Instant>,
    ended: CancellationToken,
    watch: Watch,
}

impl Session {
    /// Works until `stop`, then lets what runs come to an end for at most `deadline`. Returns how many deliveries were
    /// still running then.
    pub(crate) async fn run(self, stop: CancellationToken, deadline: Duration) -> usize {
        let (sender, messages) = mpsc::channel(MESSAGES);
        let (now, watch) = (Instant::now(), Watch::new(Arc::clone(&self.metrics)));
        let mut running = Running {
            session: self,
            items: None,
            messages,
            sender,
            attempts_begun: 0,
            readers: 0,
            nodes: 1,
            share_at: now,
            is_sharing: false,
            is_loading: false,
            is_flushing: false,
            flush_at: None,
            idle_flush_at: now + IDLE_FLUSH,
            server: None,
            stopping: None,
            ended: CancellationToken::new(),
            watch,
        };
        let ended = running.ended.clone().drop_guard();
        running.work(stop, deadline).await;
        running.session.log.set_applied(None);
        drop(ended);
        running.session.engine.in_flight()
    }
}

impl Running {
    async fn work(&mut self, stop: CancellationToken, deadline: Duration) {
        let mut buffer = Vec::new();
        let mut lease = self.session.lease.clone();
        loop {
            self.act();
            if self.is_done() {
                return;
            }
            let wake = self.wake_at();
            let takes_items = self.stopping.is_none() && !self.is_loading;
            tokio::select! {
                Some(items) = next_items(&mut self.items), if takes_items => self.take_items(items),
                _ = self.messages.recv_many(&mut buffer, 256) => {
                    for message in buffer.drain(..) {
                        self.take(message);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = lease.wait_for_renewal() => self.take_renewal().await,
                () = stop.cancelled(), if self.stopping.is_none() => self.begin_stop(deadline),
            }
        }
    }

    /// Whether there is nothing more to do here.
    fn is_done(&self) -> bool {
        self.stopping.is_some_and(|deadline| {
            let settled =
                self.session.engine.shards().is_empty() && !self.is_flushing && !self.is_loading;
            settled || Instant::now() >= deadline
        })
    }

    fn wake_at(&self) -> Instant {
        let now = UnixMillis::now();
        let due = self.session.engine.poll_timeout().map(|due| Instant::now() + due.since(now));
        let flush = [self.flush_at, Some(self.idle_flush_at)].into_iter().flatten().min();
        // While a flush is under way, its end wakes the loop.
        let flush = flush.filter(|_| !self.is_flushing);
        let share = (!self.is_sharing && self.stopping.is_none()).then_some(self.share_at);
        let longest = Instant::now() + IDLE_FLUSH;
        [due, flush, share, self.stopping].into_iter().flatten().fold(longest, Instant::min)
    }

    /// Carries out all that the engine has decided.
    fn act(&mut self) {
        self.session.engine.handle_time(UnixMillis::now());
        if self.stopping.is_none() && self.session.lease.is_trusted() {
            self.share_when_due();
            self.begin_attempts();
            self.begin_reads();
            self.begin_handshakes();
        }
        self.tell_what_happened();
        self.flush_when_due();
        self.release_quiet();
        self.watch.look(&self.session.engine);
    }

    fn begin_reads(&mut self) {
        while self.readers < MOST_READERS {
            let (log, store) = (self.session.log.clone(), self.session.store.clone());
            if let Some(read) = self.session.engine.poll_read() {
                self.send_out(effects::read(log, read));
            } else if let Some(read) = self.session.engine.poll_replay_read() {
                self.send_out(effects::read_replay(log, store, read));
            } else {
                return;
            }
            self.readers += 1;
        }
    }

    fn begin_attempts(&mut self) {
        let (starts, fetches) = self.session.engine.poll_attempts();
        for start in starts {
            self.post(start);
        }
        if !fetches.is_empty() {
            self.send_out(effects::fetch(self.session.store.clone(), fetches));
        }
    }

    fn post(&mut self, start: StartAttempt) {
        self.attempts_begun = self.attempts_begun.wrapping_add(1);
        let (deliverer, lease) = (self.session.deliverer.clone(), self.session.lease.clone());
        // Boxed once rather than moved from one wrapper into the next: it is 3.7 KB.
        let post = Box::pin(effects::post(deliverer, lease, start, self.attempts_begun));
        self.send_out(post);
    }

    fn tell_what_happened(&mut self) {
        for (subscription, turn) in self.session.engine.poll_transitions() {
            let (log, store) = (self.session.log.clone(), self.session.store.clone());
            self.send_out(async move {
                let id = subscription.id;
                status_transition::apply_transition(log, store, subscription, turn).await;
                Message::TransitionApplied(id)
            });
        }
        for exhausted in self.session.engine.poll_exhausted() {
            self.watch.exhausted();
            let log = self.session.log.clone();
            self.send_out(async move {
                exhausted::publish_exhausted(log, exhausted.clone()).await;
                Message::Told(exhausted)
            });
        }
    }

    fn take_items(&mut self, items: Vec<Item>) {
        let engine = &mut self.session.engine;
        let mut changed = false;
        for item in items {
            match item {
                Item::Event(event) => engine.handle_event(&event),
                Item::Change(event, id, snapshot) => {
                    changed = true;
                    // The entry itself is still under the patterns before it.
                    engine.handle_event(&event);
                    engine.handle_change(event.position, id, snapshot.map(|snapshot| *snapshot));
                }
                Item::Request(event, id, request) => {
                    engine.handle_event(&event);
                    engine.handle_request(id, &request, UnixMillis::now());
                }
            }
        }
        self.session.log.set_applied(engine.processed());
        if changed {
            self.tell_acted();
        }
    }

    /// Lets the other nodes know how far this one has acted on changes of subscriptions.
    fn tell_acted(&self) {
        if let Some(position) = self.session.engine.processed() {
            let (store, node) = (self.session.store.clone(), self.session.node);
            self.spawn(effects::tell_acted(store, node, position));
        }
    }

    fn take(&mut self, message: Message) {
        let engine = &mut self.session.engine;
        match message {
            Message::Ended(made) => {
                let now = UnixMillis::now();
                self.watch.ended(&made, now);
                engine.handle_outcome(*made, now);
            }
            Message::Fetched(wanted, events) => self.take_fetched(wanted, events),
            Message::Read(read, stretch) => {
                self.readers -= 1;
                match stretch {
                    Ok(stretch) => engine.handle_read(&read, &stretch),
                    Err(error) => {
                        tracing::warn!(%error, subscription = %read.subscription.id, "cannot read on for a subscription that is behind");
                        engine.handle_read_error(read.subscription.id);
                    }
                }
            }
            Message::ReplayRead(read, page) => {
                self.readers -= 1;
                match page {
                    Ok((stretch, tried)) => engine.handle_replay_read(&read, &stretch, &tried),
                    Err(error) => {
                        tracing::warn!(%error, replay = %read.id, "cannot read on for a replay");
                        engine.handle_replay_read_error(read.id);
                    }
                }
            }
            Message::Flushed(sent, owned) => {
                self.is_flushing = false;
                self.watch.flush_ended();
                let lost: Vec<u16> =
                    sent.into_iter().filter(|shard| !owned.contains(shard)).collect();
                if !lost.is_empty() {
                    tracing::warn!(?lost, "another node has taken shards of this one over");
                    engine.handle_shards_lost(&lost);
                }
            }
            Message::Shared(shared) => self.take_shared(shared),
            Message::Loaded(owned, loaded) => self.take_loaded(&owned, loaded),
            Message::TransitionApplied(id) => engine.handle_transition_applied(id),
            Message::Told(exhausted) => engine.handle_exhausted_published(&exhausted),
            Message::Asked(asked) => self.take_reply(&asked),
        }
    }

    fn take_fetched(
        &mut self,
        wanted: Vec<FetchEvent>,
        events: Result<Vec<Arc<Event>>, StoreError>,
    ) {
        let engine = &mut self.session.engine;
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                // That the database is away is said by the lease, once a second.
                tracing::debug!(%error, "cannot read events that are to be tried again");
                for fetch in wanted {
                    engine.handle_fetch_error(fetch);
                }
                return;
            }
        };
        for fetch in wanted {
            match events.iter().find(|event| event.position == fetch.position) {
                Some(event) => {
                    let start = self.session.engine.handle_fetched(fetch, Arc::clone(event));
                    if let Some(start) = start {
                        self.post(start);
                    }
                }
                None => self.session.engine.handle_missing_event(fetch),
            }
        }
    }
}

impl Running {
    /// Records results when enough have come together, or their time has come; one commit at a time.
    fn flush_when_due(&mut self) {
        let now = Instant::now();
        let engine = &mut self.session.engine;
        if engine.has_results() && self.flush_at.is_none() {
            self.flush_at = Some(now + FLUSH_AFTER);
        }
        let idle = now >= self.idle_flush_at || engine.is_handing_over();
        let due =
            self.flush_at.is_some_and(|at| now >= at) || engine.unrecorded() >= FLUSH_AT || idle;
        if self.is_flushing || !due {
            return;
        }
        self.flush_at = None;
        if idle {
            self.idle_flush_at = now + IDLE_FLUSH;
        }
        if let Some(flush) = engine.poll_flush(UnixMillis::now(), idle) {
            self.is_flushing = true;
            self.watch.flush_begins(&flush);
            self.send_out(effects::record(self.session.store.clone(), flush));
        }
    }

    /// Has something done whose message is acted on when it comes back.
    fn send_out(&self, errand: impl Future<Output = Message> + Send + 'static) {
        let sender = self.sender.clone();
        self.spawn(async move {
            // Nobody listens any more after a session's end; what was not recorded is done again by the next owner.
            drop(sender.send(errand.await).await);
        });
    }

    /// Carries something out for as long as this session lasts.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.session.tasks.spawn(async move { ended.run_until_cancelled(task).await });
    }
}

/// The next stretch of the log; never, as long as none is followed.
async fn next_items(items: &mut Option<mpsc::Receiver<Vec<Item>>>) -> Option<Vec<Item>> {
    match items {
        Some(items) => items.recv().await,
        None => std::future::pending().await,
    }
}
