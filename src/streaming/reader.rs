//! The one reader: catches up from the log page by page, joins the tail, and hands out one thing at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, End, Next};
use super::filter::{Filter, Source};
use super::frame::Frame;
use super::presence::{Connection, Full, Owner, Transport};
use super::worker::{ClientId, Streams, Worker};
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// How much of the log one page looks at.
const PAGE_LIMIT: PageLimit = PageLimit { events: 500, bytes: 1 << 20 };
/// How many pages one poll looks at, and how many bytes it brings, at most.
const MOST_GATHERED: (usize, usize) = (40, 4 << 20);
/// How long to wait before reading again what could not be read.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a reader begins, and what it reads.
#[derive(Debug)]
pub(crate) struct Start {
    /// What it reads.
    pub filter: Filter,
    /// All up to here is behind it.
    pub after: Position,
    /// Told before all else: that what was asked for is no longer there.
    pub gap: Option<Event>,
}

/// What a reader does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this event.
    Event(Rc<Frame>),
    /// Give a sign of life; all that is wanted up to this place was handed out.
    Beat(Position),
    /// A page of the log was read.
    Scanned,
    /// The log cannot be read at the moment; polled again it tries again.
    Failed(StoreError),
    /// Come to an end.
    End(End),
}

/// What a poll brings.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The events, oldest first.
    pub events: Vec<Rc<Frame>>,
    /// The place to go on from.
    pub cursor: Position,
    /// Whether there is more right now.
    pub has_more: bool,
    /// Why nothing more comes, where it ended before its time.
    pub end: Option<End>,
}

struct Page {
    /// What is read from here on; `None`: what was read is no more.
    filter: Option<Arc<Filter>>,
    frames: Vec<Rc<Frame>>,
    scanned: Position,
    complete: bool,
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, StoreError>>>>;

/// A cursor that its client moves.
pub(crate) struct Reader {
    worker: Rc<Worker>,
    id: ClientId,
    filter: Arc<Filter>,
    reading: Option<Reading>,
    failed: bool,
    connection: Option<Connection>,
}

impl Reader {
    /// A reader that counts for nobody, for a poll that does not wait.
    pub(crate) fn new(worker: &Rc<Worker>, start: Start, transport: Transport) -> Self {
        let beats_always = transport == Transport::WebSocket;
        let filter = Arc::new(start.filter);
        let mut client =
            Client::new(Arc::clone(&filter), start.after, beats_always, Instant::now());
        if let Some(gap) = start.gap {
            client.tell(Rc::new(Frame::new(Arc::new(gap))));
        }
        let id = worker.enter(client);
        let worker = Rc::clone(worker);
        Self { worker, id, filter, reading: None, failed: false, connection: None }
    }

    /// Counts it as a connection of `owner`, if there is room for one more. It ends with the owner's key.
    pub(crate) fn connect(mut self, transport: Transport, owner: Owner) -> Result<Self, Full> {
        self.worker.state.borrow_mut().let_in(self.id, Arc::clone(&owner.key));
        if let Some(expires) = owner.key.expires_at {
            self.expire_at(Instant::now() + expires.since(UnixMillis::now()));
        }
        let (presence, filter) = (&self.worker.streams.presence, Arc::clone(&self.filter));
        self.connection = Some(presence.enter(transport, owner, filter, self.cursor())?);
        Ok(self)
    }

    /// Ends its stream at that time.
    pub(crate) fn expire_at(&self, expires: Instant) {
        self.worker.state.borrow_mut().expire_at(self.id, expires);
    }

    /// Goes on with another filter, from another place or from where it is.
    pub(crate) fn change(&mut self, filter: Filter, after: Option<Position>, gap: Option<Event>) {
        let (filter, after) = (Arc::new(filter), after.unwrap_or_else(|| self.cursor()));
        self.reading = None;
        let mut state = self.worker.state.borrow_mut();
        state.part(self.id);
        if let Some(client) = state.client(self.id) {
            client.move_to(Arc::clone(&filter), after);
            if let Some(gap) = gap {
                client.tell(Rc::new(Frame::new(Arc::new(gap))));
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

    /// The place to go on from: all it wants up to here was handed out.
    pub(crate) fn cursor(&self) -> Position {
        let mut state = self.worker.state.borrow_mut();
        let processed = state.processed;
        state.client(self.id).map(|client| client.cursor(processed)).unwrap_or_default()
    }

    fn is_at_edge(&self) -> bool {
        self.worker.state.borrow_mut().client(self.id).is_some_and(|client| client.is_at_edge())
    }

    /// The next thing to do; pending until there is one.
    pub(crate) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match self.next() {
            Next::Send(frame) => {
                if let Some(connection) = &self.connection {
                    connection.sent(frame.position());
                }
                Poll::Ready(Step::Event(frame))
            }
            Next::Beat => Poll::Ready(Step::Beat(self.cursor())),
            Next::End(end) => Poll::Ready(Step::End(end)),
            Next::Wait => {
                if let Some(connection) = &self.connection {
                    connection.waits();
                }
                self.wait(context);
                Poll::Pending
            }
            Next::Read(after) => {
                let reading = match self.reading.as_mut() {
                    Some(reading) => reading,
                    None => self.reading.insert(self.begin_read(after)),
                };
                let Poll::Ready(read) = reading.as_mut().poll(context) else {
                    self.wait(context);
                    return Poll::Pending;
                };
                self.reading = None;
                Poll::Ready(self.take_page(read))
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.worker.state.borrow_mut();
        state.client(self.id).map_or(Next::End(End::Stopping), |client| client.next(Instant::now()))
    }

    fn wait(&self, context: &Context<'_>) {
        if let Some(client) = self.worker.state.borrow_mut().client(self.id) {
            client.wait(context.waker());
        }
    }

    fn begin_read(&self, after: Position) -> Reading {
        let (streams, filter, failed) =
            (Arc::clone(&self.worker.streams), Arc::clone(&self.filter), self.failed);
        Box::pin(async move {
            if failed {
                sleep(AGAIN_AFTER).await;
            }
            read_page(&streams, filter, after).await
        })
    }

    fn take_page(&mut self, read: Result<Page, StoreError>) -> Step {
        self.failed = read.is_err();
        let page = match read {
            Ok(page) => page,
            Err(error) => return Step::Failed(error),
        };
        if let Some(filter) = &page.filter
            && !Arc::ptr_eq(filter, &self.filter)
        {
            self.set_filter(Arc::clone(filter));
        }
        let mut state = self.worker.state.borrow_mut();
        let processed = state.processed;
        let Some(client) = state.client(self.id) else { return Step::End(End::Stopping) };
        client.filter = Arc::clone(&self.filter);
        client.take_page(page.frames, page.scanned, page.complete, processed);
        if page.filter.is_none() {
            client.finish(End::Withdrawn);
        } else if client.is_live() {
            state.join(self.id);
        }
        Step::Scanned
    }

    /// Gathers at most `limit` events for a poll. With `wait_until` it waits for the first one until then.
    pub(crate) async fn gather(
        &mut self,
        limit: usize,
        wait_until: Option<Instant>,
    ) -> Result<Gathered, StoreError> {
        let (mut events, mut pages, mut bytes, mut end) = (Vec::new(), 0, 0, None);
        let (most_pages, most_bytes) = MOST_GATHERED;
        while events.len() < limit && bytes < most_bytes && pages < most_pages {
            let at_edge = self.is_at_edge();
            let step = poll_fn(|context| self.poll_step(context));
            let step = match wait_until {
                Some(until) if at_edge && events.is_empty() => timeout_at(until, step).await,
                _ if at_edge => break,
                _ => Ok(step.await),
            };
            match step {
                Ok(Step::Event(frame)) => {
                    bytes += frame.bytes();
                    events.push(frame);
                }
                Ok(Step::Scanned) => pages += 1,
                Ok(Step::Beat(_)) => {}
                Ok(Step::Failed(error)) => return Err(error),
                Ok(Step::End(reason)) => {
                    end = Some(reason);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Gathered { events, cursor: self.cursor(), has_more: !self.is_at_edge(), end })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.worker.state.borrow_mut().leave(self.id);
    }
}

async fn read_page(
    streams: &Streams,
    mut filter: Arc<Filter>,
    after: Position,
) -> Result<Page, StoreError> {
    let tenant = Arc::clone(&filter.tenant);
    let scan = Scan { after, up_to: Position::END, tenant: Some(&tenant), limit: PAGE_LIMIT };
    let stretch = if let Some(stretch) = streams.log.read_recent(scan) {
        stretch
    } else {
        let _permit = streams.reads.acquire().await;
        streams.log.read_after(scan).await?
    };
    let (scanned, complete) = (stretch.scanned, stretch.complete);
    if let Some(id) = filter.subscription()
        && stretch.events.iter().any(|event| event.changes_subscription() == Some(id))
    {
        match streams.filter_of_subscription(&tenant, id, filter.within()).await? {
            Some(now) => filter = Arc::new(now),
            None => return Ok(Page { filter: None, frames: Vec::new(), scanned, complete }),
        }
    }
    let mut wanted = stretch.events;
    wanted.retain(|event| filter.matches_event(event));
    leave_out_delivered(streams, &filter, after, &mut wanted).await?;
    let frames = wanted.into_iter().map(|event| Rc::new(Frame::new(event))).collect();
    Ok(Page { filter: Some(filter), frames, scanned, complete })
}

/// Leaves out what a callback of the subscription took before it was pulled from.
async fn leave_out_delivered(
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
