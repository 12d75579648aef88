//! The log as the rest of the hub knows it: append, change a subscription, read on, wait for more.

mod appender;
pub mod notifier;
mod observer;
mod revocation;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::appender::AppendError;
use self::appender::Appender;
pub use self::observer::LogObserver;
use self::observer::Observers;
pub use self::revocation::ShutOut;
use self::tail::Tail;
use crate::domain::access::audit::Actor;
use crate::domain::event::page::{Scan, Stretch};
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::{Change, Changed};
use crate::store::log::{AppendRequest, Placed};
use crate::store::{Store, StoreError};

/// How long a change waits for the dispatchers to act on it: longer than a lease runs.
const APPLY_DEADLINE: Duration = Duration::from_secs(5);
/// The first wait before another node is looked at again, which doubles, and the longest: a lease that has run out is
/// seen within the deadline.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(250));
/// How often a change is sent when the connection breaks in the middle.
const CHANGE_TRIES: u32 = 3;

/// The one log of a node: what it appends goes to Postgres in group commits and stays in memory while it is new.
#[derive(Debug, Clone)]
pub struct Log {
    node: Uuid,
    store: Store,
    appender: Appender,
    tail: Arc<Tail>,
    news: Arc<Notify>,
    dispatched: watch::Sender<Option<Position>>,
    observers: Observers,
}

impl Log {
    /// Starts the tasks that append and follow, as `node`; `observers` see what the log does from then on. `stop` ends
    /// appending, once all requests handed in are answered.
    pub async fn start(
        node: Uuid,
        store: Store,
        observers: Vec<Arc<dyn LogObserver>>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let observers = Observers::from(observers);
        let tail = Arc::new(Tail::new(store.head().await?, observers.clone()));
        tail.preload(&store).await?;
        tasks.spawn(tail::follow(Arc::clone(&tail), store.clone(), stop.clone()));
        let news = Arc::new(Notify::new());
        tasks.spawn(notifier::ring(node, store.clone(), Arc::clone(&news), stop.clone()));
        tasks.spawn(notifier::answer(node, store.clone(), Arc::clone(&tail), stop.clone()));
        let appender = Appender::start(store.clone(), Arc::clone(&tail), tasks, stop);
        let dispatched = watch::Sender::new(None);
        Ok(Self { node, store, appender, tail, news, dispatched, observers })
    }

    /// Appends a request's events; when this answers they are durable, and readers on this node see them.
    pub async fn append(&self, request: AppendRequest) -> Result<Placed, AppendError> {
        let (events, started) = (request.events.len(), Instant::now());
        let placed = self.appender.append(request).await;
        self.observers.append_ended(&placed, events, started.elapsed());
        let placed = placed?;
        self.news.notify_one();
        if let (Placed::Appended(first), 1..) = (&placed, events) {
            self.wait_until_seen(*first).await;
        }
        Ok(placed)
    }

    /// Changes a subscription, as `by` wants it and `before` was, with its entry in the log, and waits until the
    /// dispatchers act by it, here and on the node that delivers to it.
    pub async fn change(
        &self,
        change: &Change,
        before: Option<&Subscription>,
        by: &Actor,
    ) -> Result<Changed, StoreError> {
        let (token, after) = (Uuid::new_v4(), self.tail.head());
        let audit = change::audited(change, before, by, token);
        let mut tries = 0;
        let changed = loop {
            tries += 1;
            match self.store.change_subscription(token, after, change, &audit).await {
                Err(StoreError::Unavailable(_)) if tries < CHANGE_TRIES => {}
                other => break other?,
            }
        };
        if let Changed::Made { position, previous } = &changed {
            let entry = NewEvent {
                event_type: change.entry_type.clone(),
                about: Some(change.subscription.id),
                occurred_at: None,
                data: change.entry_data.clone(),
            };
            let event = Event::placed(*position, &change.subscription.tenant, &entry);
            self.tail.offer(*previous, vec![Arc::new(event)]);
            self.news.notify_one();
            self.wait_until_seen(*position).await;
            self.wait_until_dispatched(*position).await;
            self.wait_for_other_nodes(change.subscription.shard(), *position).await;
        }
        Ok(changed)
    }

    /// Reads on: from memory where that reaches back far enough, else from the table; never past the head.
    ///
    /// A scan that ends somewhere is read to its end: another node may have acted on what this one has not seen yet.
    pub async fn read_after(&self, scan: Scan<'_>) -> Result<Stretch, StoreError> {
        if scan.up_to < Position::END && !self.is_seen(scan.up_to).await {
            return Err(StoreError::Unavailable("this node is behind others".into()));
        }
        if let Some(stretch) = self.read_recent(scan) {
            return Ok(stretch);
        }
        let up_to = scan.up_to.min(self.tail.head());
        let mut stretch = self.store.read_after(Scan { up_to, ..scan }).await?;
        if stretch.complete {
            // Also past what is gone: otherwise a reader of that would never arrive.
            stretch.scanned = stretch.scanned.max(up_to);
        }
        Ok(stretch)
    }

    /// Reads on from memory alone; `None` where that does not reach back far enough.
    pub fn read_recent(&self, scan: Scan<'_>) -> Option<Stretch> {
        self.tail.read_after(scan)
    }

    /// Whether all that comes after `position` is read from memory.
    pub fn is_recent(&self, position: Position) -> bool {
        self.tail.is_recent(position)
    }

    /// The newest position that can be read.
    pub fn head(&self) -> Position {
        self.tail.head()
    }

    /// Waits until there is something after `position`.
    pub async fn wait_past(&self, position: Position) {
        self.tail.wait_past(position).await;
    }

    /// Something was appended by other means: this node and the others read it at once.
    pub(crate) fn look(&self) {
        self.tail.read_on();
        self.news.notify_one();
    }

    /// The log is gone up to `position`: it is forgotten here too.
    pub(crate) fn forget(&self, position: Position) {
        self.tail.forget(position);
    }

    /// Told by the dispatcher: everything up to `position` has been acted on. `None` when none runs on this node.
    pub fn set_dispatched(&self, position: Option<Position>) {
        self.dispatched.send_replace(position);
    }

    /// Who was told of an event shall find it: where the tail could not take a batch over in memory, it is reading.
    async fn wait_until_seen(&self, position: Position) {
        if !self.is_seen(position).await {
            tracing::warn!(%position, "the log's end in memory is behind a commit");
        }
    }

    /// Waits until this node has seen the log up to `position`, where somebody has been; false when it takes too long.
    async fn is_seen(&self, position: Position) -> bool {
        if self.tail.head() >= position {
            return true;
        }
        self.tail.read_on();
        let seen = self.tail.wait_past(position.previous());
        tokio::time::timeout(APPLY_DEADLINE, seen).await.is_ok()
    }

    async fn wait_for_other_nodes(&self, shard: u16, position: Position) {
        let looking = async {
            let (mut wait, longest) = LOOK_AGAIN;
            while !self.store.others_have_acted(self.node, shard, position).await.unwrap_or(false) {
                tokio::time::sleep(wait).await;
                wait = longest.min(wait * 2);
            }
        };
        if tokio::time::timeout(APPLY_DEADLINE, looking).await.is_err() {
            tracing::warn!(%position, "another node is behind a change of subscriptions");
        }
    }

    /// Forgets what is in memory, and reads the log's end from the table: it may be another server's.
    pub async fn read_anew(&self) -> Result<(), StoreError> {
        self.observers.history_lost();
        self.tail.begin_at(self.store.head().await?);
        Ok(())
    }

    async fn wait_until_dispatched(&self, position: Position) {
        let mut dispatched = self.dispatched.subscribe();
        let acted =
            dispatched.wait_for(|reached| reached.is_none_or(|reached| reached >= position));
        if tokio::time::timeout(APPLY_DEADLINE, acted).await.is_err() {
            tracing::warn!(%position, "the dispatcher is behind a change of subscriptions");
        }
    }
}
