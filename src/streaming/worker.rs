//! The stream clients of one worker thread, and the task that follows the tail for all of them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::client::{Client, StreamEnd};
use super::filter::{Filter, GroupKey, Source};
use super::frame::Frame;
use super::presence::Presence;
use crate::access::keys::Keys;
use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::event::matcher::Matcher;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::{Subscription, TEST_EVENT};
use crate::log::Log;
use crate::store::{Store, StoreError};

/// One read of the tail returns at most this much.
const PAGE_LIMIT: PageLimit = PageLimit { events: 256, bytes: 4 << 20 };
/// After waking this many clients the task yields, so that publishes do not wait for thousands of streams.
const MAX_WAKES_AT_ONCE: usize = 32;
/// The resolution of heartbeats and expiries.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Reads of the table that run at once on a node, for clients that are catching up.
const MAX_CONCURRENT_READS: usize = 4;
/// A stop closes streams this far apart, or closer if there are too many for the time it has.
const MAX_CLOSE_INTERVAL: Duration = Duration::from_millis(10);

/// The parts that all workers of a node share.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(super) log: Log,
    pub(super) store: Store,
    keys: Keys,
    pub(crate) presence: Arc<Presence>,
    pub(super) read_permits: Semaphore,
    stopping: CancellationToken,
    drain_time: Duration,
}

/// The parts of the hub that streams work with.
pub(crate) struct Parts {
    pub log: Log,
    pub store: Store,
    pub keys: Keys,
    pub presence: Presence,
}

impl Streams {
    /// When `stopping` is cancelled, each worker closes its streams one after another within `drain_time`.
    pub(crate) fn new(parts: Parts, stopping: CancellationToken, drain_time: Duration) -> Self {
        let Parts { log, store, keys, presence } = parts;
        let read_permits = Semaphore::new(MAX_CONCURRENT_READS);
        Self { log, store, keys, presence: Arc::new(presence), read_permits, stopping, drain_time }
    }

    /// The filter of a pull subscription's reader. `None` if the subscription does not exist, is a webhook, or is not
    /// active. `within`: the event types to which the reader's key is limited.
    pub(crate) async fn filter_of_subscription(
        &self,
        tenant: &Arc<str>,
        id: SubscriptionId,
        within: Option<Arc<[Pattern]>>,
    ) -> Result<Option<Filter>, StoreError> {
        let subscription = self.store.select_subscription(tenant, id).await?;
        let Some(subscription) = subscription.filter(Subscription::is_pulled) else {
            return Ok(None);
        };
        let versions = self.store.select_versions_of(subscription.id).await?;
        let cursor = self.store.select_pull_cursor(id).await?;
        let delivered_up_to = cursor.map(|cursor| cursor.delivered_up_to).unwrap_or_default();
        let source = Source::Subscription { id, versions, delivered_up_to, within };
        Ok(Some(Filter { tenant: Arc::clone(tenant), source }))
    }
}

pub(super) type ClientId = u64;

#[derive(Debug, Default)]
pub(super) struct WorkerState {
    /// All events up to here were offered to the live clients.
    pub(super) processed: Position,
    clients: HashMap<ClientId, Client>,
    /// The live clients of each group.
    groups: HashMap<u64, BTreeSet<ClientId>>,
    group_ids: HashMap<GroupKey, u64>,
    matcher: Matcher<u64>,
    timers: BTreeSet<(Instant, ClientId)>,
    to_wake: VecDeque<Waker>,
    last_id: u64,
    following: bool,
    stopped: bool,
}

/// The stream clients of one thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(super) streams: Arc<Streams>,
    pub(super) state: RefCell<WorkerState>,
}

impl Worker {
    /// The worker's task starts when the first client is added.
    pub(crate) fn new(streams: Arc<Streams>) -> Rc<Self> {
        Rc::new(Self { streams, state: RefCell::default() })
    }

    /// The first client starts the worker's task. After the worker has stopped, the client's stream ends at once with
    /// [`StreamEnd::Stopping`].
    pub(super) fn add_client(self: &Rc<Self>, client: Client) -> ClientId {
        let mut state = self.state.borrow_mut();
        if !state.following {
            state.following = true;
            state.processed = self.streams.log.head();
            let (worker, revoked) = (Rc::clone(self), self.streams.keys.revocations());
            // The task ends with the thread or when the node stops. It holds no data that could be lost.
            drop(tokio::task::spawn_local(async move { worker.run(revoked).await }));
        }
        state.add_client(client)
    }

    /// Runs until the node stops. Handles heartbeats and expiries every [`TICK_INTERVAL`].
    async fn run(self: Rc<Self>, mut revoked: watch::Receiver<Position>) {
        let mut ticks = interval(TICK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let processed = self.state.borrow().processed;
            tokio::select! {
                () = self.streams.log.wait_past(processed) => self.read_new_events().await,
                Ok(()) = revoked.changed() => self.state.borrow_mut().end_revoked(),
                now = ticks.tick() => self.state.borrow_mut().handle_time(now),
                () = self.streams.stopping.cancelled() => break,
            }
            self.wake_readers().await;
        }
        self.drain().await;
    }

    /// Offers events up to the log's end to live clients. After an error, waits [`TICK_INTERVAL`] and returns.
    async fn read_new_events(&self) {
        loop {
            let after = self.state.borrow().processed;
            let scan = Scan { after, up_to: Position::END, tenant: None, limit: PAGE_LIMIT };
            match self.streams.log.read_after(scan).await {
                Ok(stretch) => {
                    self.state.borrow_mut().offer_events(&stretch.events, stretch.scanned);
                    self.wake_readers().await;
                    if stretch.complete {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "streams cannot read on in the log");
                    tokio::time::sleep(TICK_INTERVAL).await;
                    return;
                }
            }
        }
    }

    /// Wakes the readers in `to_wake`. Yields to other tasks after each [`MAX_WAKES_AT_ONCE`].
    async fn wake_readers(&self) {
        loop {
            for _ in 0..MAX_WAKES_AT_ONCE {
                let Some(waker) = self.state.borrow_mut().to_wake.pop_front() else { return };
                waker.wake();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends the streams one after another within the drain time, so that clients do not all reconnect at once.
    async fn drain(&self) {
        let mut left = self.state.borrow_mut().begin_stop();
        let count = u32::try_from(left.len().max(1)).unwrap_or(u32::MAX);
        let mut pause = interval((self.streams.drain_time / count).min(MAX_CLOSE_INTERVAL));
        while let Some(id) = left.pop_front() {
            pause.tick().await;
            self.state.borrow_mut().end_stream(id, StreamEnd::Stopping);
            self.wake_readers().await;
        }
    }
}

impl WorkerState {
    /// The stream ends at once if the worker has stopped.
    fn add_client(&mut self, mut client: Client) -> ClientId {
        self.last_id += 1;
        if self.stopped {
            client.end_stream(StreamEnd::Stopping);
        }
        self.timers.insert((client.due(), self.last_id));
        self.clients.insert(self.last_id, client);
        self.last_id
    }

    pub(super) fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(&id)
    }

    pub(super) fn remove_client(&mut self, id: ClientId) {
        self.leave_group(id);
        self.clients.remove(&id);
    }

    fn end_revoked(&mut self) {
        for client in self.clients.values_mut().filter(|client| client.is_key_revoked()) {
            client.end_stream(StreamEnd::Revoked);
            self.to_wake.extend(client.take_waker());
        }
    }

    /// An earlier expiry stays.
    pub(super) fn expire_at(&mut self, id: ClientId, expires: Instant) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.expires = Some(client.expires.map_or(expires, |sooner| sooner.min(expires)));
            self.timers.insert((client.due(), id));
        }
    }

    /// Creates the group if necessary.
    pub(super) fn join_group(&mut self, id: ClientId) {
        let Some(filter) = self.clients.get(&id).map(|client| Arc::clone(&client.filter)) else {
            return;
        };
        let key = filter.group_key();
        let group = if let Some(group) = self.group_ids.get(&key) {
            *group
        } else {
            self.last_id += 1;
            self.matcher.set(self.last_id, &filter.tenant, &filter.patterns());
            self.group_ids.insert(key, self.last_id);
            self.last_id
        };
        self.groups.entry(group).or_default().insert(id);
    }

    /// Also removes an empty group. Does nothing for a client that is not live.
    pub(super) fn leave_group(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id).filter(|client| client.is_live()) else { return };
        let key = client.filter.group_key();
        let Some(number) = self.group_ids.get(&key).copied() else { return };
        let Some(group) = self.groups.get_mut(&number) else { return };
        group.remove(&id);
        if group.is_empty() {
            self.groups.remove(&number);
            self.group_ids.remove(&key);
            self.matcher.remove(number);
        }
    }

    /// Offers events to the groups that they match, and advances to `scanned`. If an event changes a pull subscription,
    /// the clients of the subscription read the log instead.
    fn offer_events(&mut self, events: &[Arc<Event>], scanned: Position) {
        for event in events {
            let is_test = event.event_type.as_str() == TEST_EVENT;
            let mut groups = self.matcher.matches(&event.tenant, event.event_type.as_str());
            let own = event.about.and_then(|id| self.group_ids.get(&GroupKey::Subscription(id)));
            if let Some(own) = own.copied() {
                if is_test {
                    groups.push(own);
                } else if event.changes_subscription().is_some() {
                    self.make_group_catch_up(own, event.position.previous());
                }
            }
            if !groups.is_empty() {
                self.offer_to_groups(&Rc::new(Frame::new(Arc::clone(event))), &groups);
            }
        }
        self.processed = self.processed.max(scanned);
    }

    /// A client whose queue is full leaves its group and reads the log again.
    fn offer_to_groups(&mut self, frame: &Rc<Frame>, groups: &[u64]) {
        for number in groups {
            let Some(group) = self.groups.get(number) else { continue };
            let mut behind = Vec::new();
            for id in group {
                let Some(client) = self.clients.get_mut(id) else { continue };
                if !client.offer(frame) {
                    behind.push(*id);
                }
                self.to_wake.extend(client.take_waker());
            }
            for id in behind {
                self.fall_behind(id, frame.position().previous());
            }
        }
    }

    /// Makes a client leave its group and read the log after `scanned`.
    fn fall_behind(&mut self, id: ClientId, scanned: Position) {
        self.leave_group(id);
        if let Some(client) = self.clients.get_mut(&id) {
            client.fall_behind(scanned);
        }
    }

    /// Makes all clients leave the group, whose subscription changes, and read the log after `scanned`.
    fn make_group_catch_up(&mut self, group: u64, scanned: Position) {
        for id in self.groups.get(&group).cloned().unwrap_or_default() {
            self.fall_behind(id, scanned);
            self.to_wake.extend(self.clients.get_mut(&id).and_then(Client::take_waker));
        }
    }

    fn handle_time(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if client.handle_time(now) {
                self.to_wake.extend(client.take_waker());
            }
            if client.due() > now {
                self.timers.insert((client.due(), id));
            }
        }
    }

    /// Makes each client that is added later end at once. Returns the clients so far.
    fn begin_stop(&mut self) -> VecDeque<ClientId> {
        self.stopped = true;
        self.clients.keys().copied().collect()
    }

    pub(super) fn end_stream(&mut self, id: ClientId, end: StreamEnd) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.end_stream(end);
            self.to_wake.extend(client.take_waker());
        }
    }
}
