//! Group commit: all append requests that wait on this node share one statement and one commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::tail::Tail;
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::event::Event;
use crate::store::Store;
use crate::store::log::{
    AppendBatch, AppendFailure, AppendOutcome, AppendRequest, BatchOutcome, LogWriter,
};

/// How many requests may wait for the next commit.
const MAX_QUEUED: usize = 8_192;
/// How many events one commit may hold, unless a single request has more.
const MAX_BATCH_EVENTS: usize = 512;
/// How many bytes of data one commit may hold, unless a single request has more.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// How long a publisher waits for the commit. After it, the outcome is [`AppendError::Unknown`].
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the appender tries to find out whether a commit succeeded after its connection broke.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Nothing was stored: the database cannot be reached, the queue is full, or the hub stops.
    #[error("the database is not available; nothing was stored")]
    Unavailable,
    /// The connection broke during the commit, or no answer came in time: the events may or may not be stored.
    #[error(
        "the connection to the database broke during the commit; the events may or may not be stored"
    )]
    Unknown,
    /// Nothing was stored: the statement itself failed, a fault of the hub or its schema.
    #[error("the database refused the events")]
    Refused,
}

type Responder = oneshot::Sender<Result<AppendOutcome, AppendError>>;

struct QueuedRequest {
    request: AppendRequest,
    responder: Responder,
}

#[derive(Debug, Clone)]
pub(super) struct Appender {
    queue: mpsc::Sender<QueuedRequest>,
    available: Arc<AtomicBool>,
}

impl Appender {
    /// Starts the append task. After `stop`, the task responds to the requests that are already queued and then ends.
    pub(super) fn start(
        store: Store,
        tail: Arc<Tail>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let available = Arc::new(AtomicBool::new(true));
        let writer = store.log_writer();
        let task = AppendTask {
            receiver,
            postponed: VecDeque::new(),
            writer,
            store,
            tail,
            available: Arc::clone(&available),
            stop,
        };
        tasks.spawn(task.run());
        Self { queue: sender, available }
    }

    /// Queues a request and waits until it is committed, at most [`COMMIT_TIMEOUT`]. Fails at once while the database
    /// is unavailable or the queue is full.
    pub(super) async fn append(
        &self,
        request: AppendRequest,
    ) -> Result<AppendOutcome, AppendError> {
        if !self.available.load(Ordering::Relaxed) {
            return Err(AppendError::Unavailable);
        }
        let (responder, response) = oneshot::channel();
        self.queue
            .try_send(QueuedRequest { request, responder })
            .map_err(|_full_or_stopped| AppendError::Unavailable)?;
        match timeout(COMMIT_TIMEOUT, response).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(AppendError::Unavailable),
            Err(_elapsed) => Err(AppendError::Unknown),
        }
    }
}

struct AppendTask {
    receiver: mpsc::Receiver<QueuedRequest>,
    /// Requests that did not fit into the last batch.
    postponed: VecDeque<QueuedRequest>,
    writer: LogWriter,
    store: Store,
    tail: Arc<Tail>,
    available: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl AppendTask {
    /// Commits batches of queued requests, one after the other, until the task is stopped and the queue is empty.
    async fn run(mut self) {
        while let Some(first) = self.next_request().await {
            let (requests, responders) = self.collect(first);
            let (token, after) = (Uuid::new_v4(), self.tail.head());
            let mut batch = AppendBatch { token, after, sent_before: false, requests };
            match self.commit(&mut batch).await {
                Ok(outcomes) => self.complete(&batch, outcomes, responders),
                Err(error) => fail(responders, &error),
            }
        }
        self.writer.close().await;
    }

    /// The next request whose publisher still waits, postponed ones first; `None` after a stop, once none is left.
    async fn next_request(&mut self) -> Option<QueuedRequest> {
        loop {
            let next = if let Some(postponed) = self.postponed.pop_front() {
                postponed
            } else {
                tokio::select! {
                    biased;
                    queued = self.receiver.recv() => queued?,
                    () = self.stop.cancelled() => return None,
                }
            };
            if !next.responder.is_closed() {
                return Some(next);
            }
        }
    }

    /// Builds a batch up to the limits of one commit, with the responder of each request at the same index. A request
    /// that does not fit is postponed to the next batch.
    fn collect(&mut self, first: QueuedRequest) -> (Vec<AppendRequest>, Vec<Responder>) {
        let (mut events, mut bytes) = size(&first.request);
        let (mut requests, mut responders) = (vec![first.request], vec![first.responder]);
        while let Ok(more) = self.receiver.try_recv() {
            if more.responder.is_closed() {
                continue;
            }
            let (more_events, more_bytes) = size(&more.request);
            events += more_events;
            bytes += more_bytes;
            // A client that disconnected may have sent the same keyed request again.
            let is_repeat = more.request.key.is_some()
                && requests.iter().any(|one| is_same_key(one, &more.request));
            if is_repeat || events > MAX_BATCH_EVENTS || bytes > MAX_BATCH_BYTES {
                self.postponed.push_back(more);
                break;
            }
            requests.push(more.request);
            responders.push(more.responder);
        }
        (requests, responders)
    }

    /// Commits a batch. If the connection breaks, sends the batch again for up to [`RESOLVE_TIMEOUT`], to find out
    /// whether it committed. If the database is unavailable, returns the error only once it is available again.
    async fn commit(&mut self, batch: &mut AppendBatch) -> Result<BatchOutcome, AppendError> {
        let mut waits = reconnect_delays();
        let mut unknown_since: Option<Instant> = None;
        let mut has_created_partitions = false;
        loop {
            let failure = match self.writer.append(batch).await {
                Ok(outcomes) => {
                    self.available.store(true, Ordering::Relaxed);
                    return Ok(outcomes);
                }
                Err(failure) => failure,
            };
            match failure {
                AppendFailure::NoPartition if !has_created_partitions => {
                    has_created_partitions = true;
                    if let Err(error) = self.store.create_partitions().await {
                        tracing::error!(%error, "cannot create partitions");
                    }
                    continue;
                }
                AppendFailure::Refused(error) => {
                    tracing::error!(%error, "the database rejected an append");
                    return Err(AppendError::Refused);
                }
                AppendFailure::NoPartition => return Err(AppendError::Refused),
                AppendFailure::NotAppended(error) => tracing::warn!(%error, "cannot append"),
                AppendFailure::Unknown(error) => {
                    tracing::warn!(%error, "the connection broke during an append");
                    unknown_since.get_or_insert_with(Instant::now);
                    batch.sent_before = true;
                }
            }
            self.available.store(false, Ordering::Relaxed);
            match unknown_since {
                None => {
                    self.reconnect().await;
                    return Err(AppendError::Unavailable);
                }
                Some(since) if since.elapsed() > RESOLVE_TIMEOUT => {
                    self.reconnect().await;
                    return Err(AppendError::Unknown);
                }
                Some(_) => tokio::time::sleep(waits.next().unwrap_or(RESOLVE_TIMEOUT)).await,
            }
        }
    }

    /// Connects, with growing delays, until the database is available or the task is stopped. Meanwhile every queued
    /// request fails at once.
    async fn reconnect(&mut self) {
        for wait in reconnect_delays() {
            let retry_at = Instant::now() + wait;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(retry_at) => break,
                    () = self.stop.cancelled() => return,
                    queued = self.receiver.recv() => match queued {
                        Some(queued) => fail(vec![queued.responder], &AppendError::Unavailable),
                        None => return,
                    },
                }
            }
            match self.writer.connect().await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "the database is still unavailable"),
            }
        }
        self.available.store(true, Ordering::Relaxed);
        tracing::info!("the database is available again");
    }

    /// Adds the committed events to the tail, then responds to the publisher of each request.
    fn complete(&self, batch: &AppendBatch, outcomes: BatchOutcome, responders: Vec<Responder>) {
        let mut events = Vec::new();
        for (request, outcome) in batch.requests.iter().zip(&outcomes.requests) {
            if let AppendOutcome::Appended(first) = outcome {
                let appended = request.events.iter().enumerate().map(|(offset, event)| {
                    Arc::new(Event::at(first.advanced(offset), &request.tenant, event))
                });
                events.extend(appended);
            }
        }
        self.tail.add_committed(outcomes.previous, events);
        for (outcome, responder) in outcomes.requests.into_iter().zip(responders) {
            // A publisher that disconnected gets no response, but its events are in the log.
            drop(responder.send(Ok(outcome)));
        }
    }
}

fn is_same_key(one: &AppendRequest, other: &AppendRequest) -> bool {
    let key = |request: &AppendRequest| request.key.as_ref().map(|key| key.key.clone());
    one.tenant == other.tenant && key(one) == key(other)
}

/// Returns the number of events in a request, and the total size of their data in bytes.
fn size(request: &AppendRequest) -> (usize, usize) {
    (request.events.len(), request.events.iter().map(|event| event.data.len()).sum())
}

fn fail(responders: Vec<Responder>, error: &AppendError) {
    for responder in responders {
        drop(responder.send(Err(error.clone())));
    }
}
