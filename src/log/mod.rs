//! The log as the rest of the hub sees it: append, read, wait for more, and changes that every node must apply.

mod appender;
mod change;
mod notifier;
mod observer;
mod revocation;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::appender::AppendError;
use self::appender::Appender;
pub use self::observer::LogObserver;
use self::observer::Observers;
pub use self::revocation::RevocationReach;
use self::tail::Tail;
use crate::domain::event::page::{Scan, Stretch};
use crate::domain::position::Position;
use crate::store::log::{AppendOutcome, AppendRequest};
use crate::store::{Store, StoreError};

/// How long a change waits until every node has applied it. Longer than a lease runs: the wait for a node that dies
/// ends with its lease.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// The first delay between two checks of the other nodes. It doubles up to [`MAX_CHECK_DELAY`].
const MIN_CHECK_DELAY: Duration = Duration::from_millis(4);
const MAX_CHECK_DELAY: Duration = Duration::from_millis(250);
/// How many times a change is sent at most, if the connection breaks before the response.
const MAX_CHANGE_ATTEMPTS: u32 = 3;

/// A node's view of the log. Appends go to Postgres in group commits; the newest events stay in memory.
#[derive(Debug, Clone)]
pub struct Log {
    node: Uuid,
    store: Store,
    appender: Appender,
    tail: Arc<Tail>,
    /// Wakes the notifier after an append of this node.
    notifier_wakeup: Arc<Notify>,
    /// The position up to which delivery on this node has applied the log; `None` while no delivery runs.
    applied: watch::Sender<Option<Position>>,
    observers: Observers,
}

impl Log {
    /// Loads the newest events and starts the tasks that append, notify other nodes and follow the log. `node` is this
    /// node's id. `observers` are called for every entry and append from then on.
    ///
    /// After `stop`, the log responds to the appends that are already queued, and the tasks end.
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
        let wakeup = Arc::new(Notify::new());
        tasks.spawn(notifier::notify(node, store.clone(), Arc::clone(&wakeup), stop.clone()));
        tasks.spawn(notifier::listen(node, store.clone(), Arc::clone(&tail), stop.clone()));
        let appender = Appender::start(store.clone(), Arc::clone(&tail), tasks, stop);
        let applied = watch::Sender::new(None);
        Ok(Self { node, store, appender, tail, notifier_wakeup: wakeup, applied, observers })
    }

    /// Appends a request's events. On success they are durable, and readers on this node see them, unless the node lags
    /// for longer than `APPLY_TIMEOUT`.
    pub async fn append(&self, request: AppendRequest) -> Result<AppendOutcome, AppendError> {
        let (events, started) = (request.events.len(), Instant::now());
        let outcome = self.appender.append(request).await;
        self.observers.notify_append(&outcome, events, started.elapsed());
        let outcome = outcome?;
        self.notifier_wakeup.notify_one();
        if let (AppendOutcome::Appended(first), 1..) = (&outcome, events) {
            self.wait_until_visible(*first).await;
        }
        Ok(outcome)
    }

    /// Reads forward, oldest first, never past the head, from memory if it holds every event after `scan.after`.
    ///
    /// With an upper bound, which may come from a node that is ahead, first waits until this node has read the log up
    /// to there; [`StoreError::Unavailable`] if that takes too long.
    pub async fn read_after(&self, scan: Scan<'_>) -> Result<Stretch, StoreError> {
        if scan.up_to < Position::END && !self.catch_up_to(scan.up_to).await {
            return Err(StoreError::Unavailable("this node lags behind others".into()));
        }
        if let Some(stretch) = self.read_recent(scan) {
            return Ok(stretch);
        }
        let up_to = scan.up_to.min(self.tail.head());
        let mut stretch = self.store.read_after(Scan { up_to, ..scan }).await?;
        if stretch.complete {
            // Also past expired events: otherwise a reader of an expired range would never reach its end.
            stretch.scanned = stretch.scanned.max(up_to);
        }
        Ok(stretch)
    }

    /// Reads forward from memory only; `None` if memory does not hold every event after `scan.after`.
    pub fn read_recent(&self, scan: Scan<'_>) -> Option<Stretch> {
        self.tail.read_after(scan)
    }

    /// If true, memory holds every event after `position`, so that a read from there needs no database, and `position`
    /// is not above the head.
    pub fn is_recent(&self, position: Position) -> bool {
        self.tail.is_recent(position)
    }

    pub fn head(&self) -> Position {
        self.tail.head()
    }

    /// Waits, without a time limit, until [`Self::head`] is above `position`.
    pub async fn wait_past(&self, position: Position) {
        self.tail.wait_past(position).await;
    }

    /// Makes all nodes read new entries from the table, after a statement has appended them without [`Self::append`].
    pub(crate) fn notify_appended(&self) {
        self.tail.request_read();
        self.notifier_wakeup.notify_one();
    }

    /// Removes the events at or below `expired_up_to` from memory, after retention has expired them.
    pub(crate) fn drop_expired(&self, expired_up_to: Position) {
        self.tail.drop_expired(expired_up_to);
    }

    /// Records that this node's delivery has applied every entry up to `position`; `None` when no delivery runs.
    pub fn set_applied(&self, position: Option<Position>) {
        self.applied.send_replace(position);
    }

    /// Empties the memory and continues from the newest event of the table. Called when another server has become the
    /// database, such as a standby that may lack the last entries.
    pub async fn reload(&self) -> Result<(), StoreError> {
        self.observers.notify_history_lost();
        self.tail.reset_to(self.store.head().await?);
        Ok(())
    }

    /// Waits until readers on this node can see a committed position. Warns if that takes too long.
    async fn wait_until_visible(&self, position: Position) {
        if !self.catch_up_to(position).await {
            tracing::warn!(%position, "this node's view of the log lags behind a commit");
        }
    }

    /// Waits until this node has read the log up to `position`, which must exist. False after [`APPLY_TIMEOUT`].
    async fn catch_up_to(&self, position: Position) -> bool {
        if self.tail.head() >= position {
            return true;
        }
        self.tail.request_read();
        timeout(APPLY_TIMEOUT, self.tail.wait_past(position.previous())).await.is_ok()
    }
}

/// Calls `check` with growing delays. False after [`APPLY_TIMEOUT`]; an error counts as false.
async fn poll_until<F>(check: impl Fn() -> F) -> bool
where
    F: Future<Output = Result<bool, StoreError>>,
{
    let polling = async {
        let mut delay = MIN_CHECK_DELAY;
        while !check().await.unwrap_or(false) {
            tokio::time::sleep(delay).await;
            delay = MAX_CHECK_DELAY.min(delay * 2);
        }
    };
    timeout(APPLY_TIMEOUT, polling).await.is_ok()
}

/// Runs `change` up to [`MAX_CHANGE_ATTEMPTS`] times while the database is unavailable. It must be safe to repeat.
async fn send_repeatable<T, F>(change: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..MAX_CHANGE_ATTEMPTS {
        match change().await {
            Err(StoreError::Unavailable(_)) => {}
            done => return done,
        }
    }
    change().await
}
