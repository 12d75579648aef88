//! Group commit: all requests that wait on this node go in one statement, one commit.

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
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::event::Event;
use crate::store::Store;
use crate::store::log::{AppendBatch, AppendFailure, AppendRequest, Appended, LogWriter, Placed};

/// How many requests may wait to be taken up.
const WAITING: usize = 8_192;
/// At most so many events go in one commit, and so many bytes of data, unless one request alone has more.
const BATCH: (usize, usize) = (512, 1 << 20);
/// How long a publisher waits for the commit.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long the fate of a commit is looked into after the connection broke in the middle.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(8);

/// Why a request was not appended, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The database is away; nothing was stored.
    #[error("the database is not available; nothing was stored")]
    Unavailable,
    /// The connection broke in the middle of the commit: the events may be stored, or not.
    #[error("the database went away in the middle of the commit: the events may be stored or not")]
    Unknown,
    /// The hub or its schema is at fault; nothing was stored.
    #[error("the database refused the events")]
    Refused,
}

struct Waiting {
    request: AppendRequest,
    answer: oneshot::Sender<Result<Placed, AppendError>>,
}

/// The door to a node's one append task.
#[derive(Debug, Clone)]
pub(super) struct Appender {
    waiting: mpsc::Sender<Waiting>,
    available: Arc<AtomicBool>,
}

impl Appender {
    /// Starts the task; `stop` ends it when all that was handed in is answered.
    pub(super) fn start(
        store: Store,
        tail: Arc<Tail>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let available = Arc::new(AtomicBool::new(true));
        let writer = store.log_writer();
        let task = AppendTask {
            receiver,
            held: VecDeque::new(),
            writer,
            store,
            tail,
            available: Arc::clone(&available),
            stop,
        };
        tasks.spawn(task.run());
        Self { waiting: sender, available }
    }

    /// Hands a request in and waits for its commit.
    pub(super) async fn append(&self, request: AppendRequest) -> Result<Placed, AppendError> {
        if !self.available.load(Ordering::Relaxed) {
            return Err(AppendError::Unavailable);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting
            .try_send(Waiting { request, answer })
            .map_err(|_full_or_stopped| AppendError::Unavailable)?;
        match timeout(ANSWER_DEADLINE, answered).await {
            Ok(Ok(placed)) => placed,
            Ok(Err(_dropped)) => Err(AppendError::Unavailable),
            Err(_elapsed) => Err(AppendError::Unknown),
        }
    }
}

struct AppendTask {
    receiver: mpsc::Receiver<Waiting>,
    held: VecDeque<Waiting>,
    writer: LogWriter,
    store: Store,
    tail: Arc<Tail>,
    available: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl AppendTask {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            let (requests, answers) = self.collect(first);
            let (token, after) = (Uuid::new_v4(), self.tail.head());
            let mut batch = AppendBatch { token, after, sent_before: false, requests };
            match self.commit(&mut batch).await {
                Ok(appended) => self.answer(&batch, appended, answers),
                Err(error) => refuse(answers, &error),
            }
        }
        self.writer.close().await;
    }

    async fn next(&mut self) -> Option<Waiting> {
        loop {
            let next = if let Some(held) = self.held.pop_front() {
                held
            } else {
                tokio::select! {
                    biased;
                    waiting = self.receiver.recv() => waiting?,
                    () = self.stop.cancelled() => return None,
                }
            };
            if !next.answer.is_closed() {
                return Some(next);
            }
        }
    }

    /// Takes up what waits, as far as one commit goes.
    fn collect(
        &mut self,
        first: Waiting,
    ) -> (Vec<AppendRequest>, Vec<oneshot::Sender<Result<Placed, AppendError>>>) {
        let (mut events, mut bytes) = size(&first.request);
        let (mut requests, mut answers) = (vec![first.request], vec![first.answer]);
        while let Ok(more) = self.receiver.try_recv() {
            if more.answer.is_closed() {
                continue;
            }
            let (more_events, more_bytes) = size(&more.request);
            events += more_events;
            bytes += more_bytes;
            // A repeat of a request that waits, too: its client has gone and come back.
            let is_repeat = more.request.key.is_some()
                && requests.iter().any(|one| is_same_key(one, &more.request));
            if is_repeat || events > BATCH.0 || bytes > BATCH.1 {
                self.held.push_back(more);
                break;
            }
            requests.push(more.request);
            answers.push(more.answer);
        }
        (requests, answers)
    }

    /// Commits, or finds out what became of a commit that was cut off.
    async fn commit(&mut self, batch: &mut AppendBatch) -> Result<Appended, AppendError> {
        let mut waits = reconnect_waits();
        let mut sent_since: Option<Instant> = None;
        let mut partitions_made = false;
        loop {
            let failure = match self.writer.append(batch).await {
                Ok(appended) => {
                    self.available.store(true, Ordering::Relaxed);
                    return Ok(appended);
                }
                Err(failure) => failure,
            };
            match failure {
                AppendFailure::NoPartition if !partitions_made => {
                    partitions_made = true;
                    if let Err(error) = self.store.create_partitions().await {
                        tracing::error!(%error, "cannot make partitions");
                    }
                    continue;
                }
                AppendFailure::Refused(error) => {
                    tracing::error!(%error, "an append was refused");
                    return Err(AppendError::Refused);
                }
                AppendFailure::NoPartition => return Err(AppendError::Refused),
                AppendFailure::NotSent(error) => tracing::warn!(%error, "cannot append"),
                AppendFailure::Unknown(error) => {
                    tracing::warn!(%error, "an append was cut off");
                    sent_since.get_or_insert_with(Instant::now);
                    batch.sent_before = true;
                }
            }
            self.available.store(false, Ordering::Relaxed);
            match sent_since {
                None => {
                    self.reconnect().await;
                    return Err(AppendError::Unavailable);
                }
                Some(since) if since.elapsed() > RESOLVE_DEADLINE => {
                    self.reconnect().await;
                    return Err(AppendError::Unknown);
                }
                Some(_) => tokio::time::sleep(waits.next().unwrap_or(RESOLVE_DEADLINE)).await,
            }
        }
    }
}

impl AppendTask {
    /// Waits for the database to come back, refusing meanwhile what is handed in.
    async fn reconnect(&mut self) {
        for wait in reconnect_waits() {
            let retry_at = Instant::now() + wait;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(retry_at) => break,
                    () = self.stop.cancelled() => return,
                    waiting = self.receiver.recv() => match waiting {
                        Some(waiting) => refuse(vec![waiting.answer], &AppendError::Unavailable),
                        None => return,
                    },
                }
            }
            match self.writer.connect().await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "the database is still away"),
            }
        }
        self.available.store(true, Ordering::Relaxed);
        tracing::info!("the database is back");
    }

    /// Hands the committed events to the tail, then answers.
    fn answer(
        &self,
        batch: &AppendBatch,
        appended: Appended,
        answers: Vec<oneshot::Sender<Result<Placed, AppendError>>>,
    ) {
        let mut events = Vec::new();
        for (request, placed) in batch.requests.iter().zip(&appended.placed) {
            if let Placed::Appended(first) = placed {
                let placed = request.events.iter().enumerate().map(|(offset, event)| {
                    Arc::new(Event::placed(first.advanced(offset), &request.tenant, event))
                });
                events.extend(placed);
            }
        }
        self.tail.offer(appended.previous, events);
        for (placed, answer) in appended.placed.into_iter().zip(answers) {
            // A publisher that hung up does not hear of it; the events are in the log all the same.
            drop(answer.send(Ok(placed)));
        }
    }
}

fn is_same_key(one: &AppendRequest, other: &AppendRequest) -> bool {
    let key = |request: &AppendRequest| request.key.as_ref().map(|key| key.key.clone());
    one.tenant == other.tenant && key(one) == key(other)
}

fn size(request: &AppendRequest) -> (usize, usize) {
    (request.events.len(), request.events.iter().map(|event| event.data.len()).sum())
}

fn refuse(answers: Vec<oneshot::Sender<Result<Placed, AppendError>>>, error: &AppendError) {
    for answer in answers {
        drop(answer.send(Err(error.clone())));
    }
}
