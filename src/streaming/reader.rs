//! The reader behind every stream and poll: it catches up from the log page by page, then joins the tail.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, ClientAction, StreamEnd};
use super::filter::{Filter, Source};
use super::frame::Frame;
use super::presence::{ConnectionGuard, ConnectionOwner, StreamLimitReached, Transport};
use super::worker::{ClientId, Streams, Worker};
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// One read of the log scans at most this much.
const PAGE_LIMIT: PageLimit = PageLimit { events: 500, bytes: 1 << 20 };
/// One poll scans at most this many pages.
const MAX_POLL_PAGES: usize = 40;
/// A poll with this many bytes of events ends.
const MAX_POLL_BYTES: usize = 4 << 20;
/// The delay after a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct ReaderStart {
    pub filter: Filter,
    pub after: Position,
    /// The event that reports missing events, sent before all others.
    pub gap: Option<Event>,
}

#[derive(Debug)]
pub(crate) enum ReaderStep {
    Event(Rc<Frame>),
    /// A heartbeat is due. All matching events up to this position were sent.
    Heartbeat(Position),
    /// A page of the log was scanned.
    Scanned,
    /// A read failed. The next poll retries after a delay.
    Failed(StoreError),
    End(StreamEnd),
}

/// The events of one poll, oldest first.
#[derive(Debug)]
pub(crate) struct PollResult {
    pub events: Vec<Rc<Frame>>,
    /// The position to resume from.
    pub cursor: Position,
    /// Whether the next poll may find events without waiting.
    pub has_more: bool,
    /// The reason if the stream ended before the poll was complete.
    pub end: Option<StreamEnd>,
}

struct ReadPage {
    /// The filter from here on; `None` if the subscription is no longer pulled.
    filter: Option<Arc<Filter>>,
    frames: Vec<Rc<Frame>>,
    scanned: Position,
    complete: bool,
}

type PendingRead = Pin<Box<dyn Future<Output = Result<ReadPage, StoreError>>>>;

/// Drives one [`Client`]: reads the log for it while it catches up, and returns its events. Dropping the reader removes
/// the client.
pub(crate) struct Reader {
    worker: Rc<Worker>,
    id: ClientId,
    filter: Arc<Filter>,
    reading: Option<PendingRead>,
    failed: bool,
    connection: Option<ConnectionGuard>,
}

impl Reader {
    /// Counts against no connection limit before [`Self::count_as_connection`], which a poll that does not wait never
    /// calls.
    pub(crate) fn new(worker: &Rc<Worker>, start: ReaderStart, transport: Transport) -> Self {
        let always_heartbeat = transport == Transport::WebSocket;
        let filter = Arc::new(start.filter);
        let mut client =
            Client::new(Arc::clone(&filter), start.after, always_heartbeat, Instant::now());
        if let Some(gap) = start.gap {
            client.enqueue(Rc::new(Frame::new(Arc::new(gap))));
        }
        let id = worker.add_client(client);
        let worker = Rc::clone(worker);
        Self { worker, id, filter, reading: None, failed: false, connection: None }
    }

    /// Counts against the connection limits until the reader is dropped. Fails if one is reached. The stream ends when
    /// the owner's key expires or is revoked.
    pub(crate) fn count_as_connection(
        mut self,
        transport: Transport,
        owner: ConnectionOwner,
    ) -> Result<Self, StreamLimitReached> {
        if let Some(client) = self.worker.state.borrow_mut().client(self.id) {
            client.key = Some(Arc::clone(&owner.key));
        }
        if let Some(expires) = owner.key.expires_at {
            self.expire_at(Instant::now() + expires.since(UnixMillis::now()));
        }
        let (presence, filter) = (&self.worker.streams.presence, Arc::clone(&self.filter));
        self.connection = Some(presence.add_connection(transport, owner, filter, self.cursor())?);
        Ok(self)
    }

    /// Ends the stream at this time. An earlier expiry stays.
    pub(crate) fn expire_at(&self, expires: Instant) {
        self.worker.state.borrow_mut().expire_at(self.id, expires);
    }

    /// Drops queued events, and continues after `after`; `None`: after [`Self::cursor`]. `gap` is sent before all other
    /// events.
    pub(crate) fn change_filter(
        &mut self,
        filter: Filter,
        after: Option<Position>,
        gap: Option<Event>,
    ) {
        let (filter, after) = (Arc::new(filter), after.unwrap_or_else(|| self.cursor()));
        self.reading = None;
        let mut state = self.worker.state.borrow_mut();
        state.leave_group(self.id);
        if let Some(client) = state.client(self.id) {
            client.restart(Arc::clone(&filter), after);
            if let Some(gap) = gap {
                client.enqueue(Rc::new(Frame::new(Arc::new(gap))));
            }
        }
        drop(state);
        self.set_filter(filter);
    }

    fn set_filter(&mut self, filter: Arc<Filter>) {
        if let Some(connection) = &self.connection {
            connection.set_filter(Arc::clone(&filter));
        }
        self.filter = filter;
    }

    /// All matching events up to here were sent.
    pub(crate) fn cursor(&self) -> Position {
        let mut state = self.worker.state.borrow_mut();
        let processed = state.processed;
        state.client(self.id).map(|client| client.cursor(processed)).unwrap_or_default()
    }

    /// Whether the reader would have to wait for the next event.
    fn is_caught_up(&self) -> bool {
        self.worker.state.borrow_mut().client(self.id).is_some_and(|client| client.is_caught_up())
    }

    /// The client's next step. Reads the log while the client catches up. When pending, the worker or the read wakes
    /// the task.
    pub(crate) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<ReaderStep> {
        match self.next_action() {
            ClientAction::Send(frame) => {
                if let Some(connection) = &self.connection {
                    connection.record_sent(frame.position());
                }
                Poll::Ready(ReaderStep::Event(frame))
            }
            ClientAction::Heartbeat => Poll::Ready(ReaderStep::Heartbeat(self.cursor())),
            ClientAction::End(end) => Poll::Ready(ReaderStep::End(end)),
            ClientAction::Wait => {
                if let Some(connection) = &self.connection {
                    connection.set_waiting();
                }
                self.wake_when_ready(context);
                Poll::Pending
            }
            ClientAction::ReadAfter(after) => {
                let reading = match self.reading.as_mut() {
                    Some(reading) => reading,
                    None => self.reading.insert(self.start_read(after)),
                };
                let Poll::Ready(read) = reading.as_mut().poll(context) else {
                    self.wake_when_ready(context);
                    return Poll::Pending;
                };
                self.reading = None;
                Poll::Ready(self.finish_read(read))
            }
        }
    }

    /// [`StreamEnd::Stopping`] if the worker no longer has the client.
    fn next_action(&self) -> ClientAction {
        let mut state = self.worker.state.borrow_mut();
        state.client(self.id).map_or(ClientAction::End(StreamEnd::Stopping), |client| {
            client.next_action(Instant::now())
        })
    }

    fn wake_when_ready(&self, context: &Context<'_>) {
        if let Some(client) = self.worker.state.borrow_mut().client(self.id) {
            client.set_waker(context.waker());
        }
    }

    /// After a failed read, the future first waits [`RETRY_DELAY`].
    fn start_read(&self, after: Position) -> PendingRead {
        let (streams, filter, failed) =
            (Arc::clone(&self.worker.streams), Arc::clone(&self.filter), self.failed);
        Box::pin(async move {
            if failed {
                sleep(RETRY_DELAY).await;
            }
            read_page(&streams, filter, after).await
        })
    }

    /// A client that becomes live joins its group. The stream ends if the pull subscription can no longer be read.
    fn finish_read(&mut self, read: Result<ReadPage, StoreError>) -> ReaderStep {
        self.failed = read.is_err();
        let page = match read {
            Ok(page) => page,
            Err(error) => return ReaderStep::Failed(error),
        };
        if let Some(filter) = &page.filter
            && !Arc::ptr_eq(filter, &self.filter)
        {
            self.set_filter(Arc::clone(filter));
        }
        let mut state = self.worker.state.borrow_mut();
        let processed = state.processed;
        let Some(client) = state.client(self.id) else {
            return ReaderStep::End(StreamEnd::Stopping);
        };
        client.filter = Arc::clone(&self.filter);
        client.accept_page(page.frames, page.scanned, page.complete, processed);
        if page.filter.is_none() {
            client.end_stream(StreamEnd::Withdrawn);
        } else if client.is_live() {
            state.join_group(self.id);
        }
        ReaderStep::Scanned
    }

    /// Collects up to `limit` events, for a poll. If the log has none, waits until `wait_until` for the first event;
    /// `None`: does not wait. A failed read is an error at once.
    ///
    /// The result may have fewer events than exist: [`MAX_POLL_BYTES`] and [`MAX_POLL_PAGES`] also end the poll.
    pub(crate) async fn collect_events(
        &mut self,
        limit: usize,
        wait_until: Option<Instant>,
    ) -> Result<PollResult, StoreError> {
        let (mut events, mut pages, mut bytes, mut end) = (Vec::new(), 0, 0, None);
        while events.len() < limit && bytes < MAX_POLL_BYTES && pages < MAX_POLL_PAGES {
            let caught_up = self.is_caught_up();
            let step = poll_fn(|context| self.poll_step(context));
            let step = match wait_until {
                Some(until) if caught_up && events.is_empty() => timeout_at(until, step).await,
                _ if caught_up => break,
                _ => Ok(step.await),
            };
            match step {
                Ok(ReaderStep::Event(frame)) => {
                    bytes += frame.bytes();
                    events.push(frame);
                }
                Ok(ReaderStep::Scanned) => pages += 1,
                Ok(ReaderStep::Heartbeat(_)) => {}
                Ok(ReaderStep::Failed(error)) => return Err(error),
                Ok(ReaderStep::End(reason)) => {
                    end = Some(reason);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(PollResult { events, cursor: self.cursor(), has_more: !self.is_caught_up(), end })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.worker.state.borrow_mut().remove_client(self.id);
    }
}

/// Reads the page of the log after `after`, from memory if possible, and keeps only the events that match `filter`.
///
/// If the page changes the filter's pull subscription, the filter is read again from the database before events are
/// matched. The page has no filter if the subscription can no longer be read.
async fn read_page(
    streams: &Streams,
    mut filter: Arc<Filter>,
    after: Position,
) -> Result<ReadPage, StoreError> {
    let tenant = Arc::clone(&filter.tenant);
    let scan = Scan { after, up_to: Position::END, tenant: Some(&tenant), limit: PAGE_LIMIT };
    let stretch = if let Some(stretch) = streams.log.read_recent(scan) {
        stretch
    } else {
        let _permit = streams.read_permits.acquire().await;
        streams.log.read_after(scan).await?
    };
    let (scanned, complete) = (stretch.scanned, stretch.complete);
    if let Some(id) = filter.subscription_id()
        && stretch.events.iter().any(|event| event.changes_subscription() == Some(id))
    {
        match streams.filter_of_subscription(&tenant, id, filter.allowed_types()).await? {
            Some(now) => filter = Arc::new(now),
            None => return Ok(ReadPage { filter: None, frames: Vec::new(), scanned, complete }),
        }
    }
    let mut events = stretch.events;
    events.retain(|event| filter.matches_event(event));
    remove_delivered(streams, &filter, after, &mut events).await?;
    let frames = events.into_iter().map(|event| Rc::new(Frame::new(event))).collect();
    Ok(ReadPage { filter: Some(filter), frames, scanned, complete })
}

/// Removes events that were delivered while the subscription was a webhook. `after`: where the read began.
async fn remove_delivered(
    streams: &Streams,
    filter: &Filter,
    after: Position,
    events: &mut Vec<Arc<Event>>,
) -> Result<(), StoreError> {
    if let Source::Subscription { id, delivered_up_to, .. } = &filter.source
        && after < *delivered_up_to
    {
        let positions: Vec<i64> = events.iter().map(|event| event.position.stored()).collect();
        let delivered = streams.store.select_delivered(*id, &positions).await?;
        events.retain(|event| !delivered.contains(&event.position));
    }
    Ok(())
}
