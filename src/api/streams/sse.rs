//! Streams of events: where they begin, and Server-Sent Events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;

use crate::api::auth::caller::only;
use crate::api::auth::reader::Reading;
use crate::api::http::query::{Query, TOKEN, invalid};
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::api::state::worker;
use crate::domain::position::Position;
use crate::streaming::presence::Transport;
use crate::streaming::resume::{ResumePoint, Resumption, gap_event};
use crate::streaming::{Filter, Reader, ReaderStart, ReaderStep, Streams};

const LAST_EVENT_ID: &str = "last-event-id";
/// Tells nginx not to hold events back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// After a cut clients come back this many milliseconds later, and up to as many again, each at a time of its own.
const RETRY_MS: u32 = 1_000;
/// A comment, for connections and proxies that give up on silence.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// `GET /v1/stream`.
pub(crate) async fn stream(
    reading: Reading,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["types", "after", "last_event_id", "named", TOKEN])?;
    let filter = reading.filter(&query)?;
    let named = named(&query)?;
    let point = resume_point(&request, &query)?.unwrap_or(ResumePoint::Now);
    let start = start(&api.streams, filter, &point).await?;
    let reader = Reader::new(&worker(&request)?, start, Transport::Sse);
    let reader = reader.connect(Transport::Sse, reading.caller.owner(&request))?;
    if let Some(expires) = reading.expires() {
        reader.expire_at(expires);
    }
    Ok(server_sent_events(&request, reader, named))
}

/// `named`: whether each event tells its type as `event:`.
pub(crate) fn named(query: &Query) -> Result<bool, Problem> {
    match query.text("named") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid("named", "expected true or false")),
    }
}

/// Where a stream is to go on: the header `Last-Event-ID` (WHATWG HTML, 9.2.4) wins over `last_event_id`, that over
/// `after`.
pub(crate) fn resume_point(
    request: &HttpRequest,
    query: &Query,
) -> Result<Option<ResumePoint>, Problem> {
    let last = last_id(request, query)?;
    let after = query.text("after").filter(|after| !after.is_empty());
    Ok(last.as_deref().or(after).map(ResumePoint::parse))
}

/// The last event that a client of a pull subscription was sent before it was cut off, if it says so.
pub(crate) fn last_event_id(
    request: &HttpRequest,
    query: &Query,
) -> Result<Option<Position>, Problem> {
    Ok(last_id(request, query)?.and_then(|id| id.parse().ok()))
}

fn last_id(request: &HttpRequest, query: &Query) -> Result<Option<String>, Problem> {
    let header = only(request, LAST_EVENT_ID)?;
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parameter = query.text("last_event_id").map(str::to_owned);
    Ok(header.into_iter().chain(parameter).find(|id| !id.is_empty()))
}

/// A reader's beginning at `point`; if that is not there, with the oldest kept event, and told so.
pub(crate) async fn start(
    streams: &Streams,
    filter: Filter,
    point: &ResumePoint,
) -> Result<ReaderStart, Problem> {
    Ok(match streams.resolve(point).await? {
        Resumption::At(after) => ReaderStart { filter, after, gap: None },
        Resumption::Gone { reason, earliest } => {
            let gap = gap_event(&filter.tenant, point, reason, earliest);
            ReaderStart { filter, after: gap.position, gap: Some(gap) }
        }
    })
}

/// The answer that goes on for as long as the client listens.
pub(crate) fn server_sent_events(
    request: &HttpRequest,
    reader: Reader,
    named: bool,
) -> HttpResponse {
    let mut response = head();
    if request.method() == Method::HEAD {
        return response.finish();
    }
    // The id at once: a client that is cut off before its first event goes on from here, too.
    let told = reader.cursor();
    let hello = Some(Bytes::from(format!("{}id: {told}\n\n", retry_hint())));
    response.body(ServerSentEvents { reader, named, hello, told })
}

fn head() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((NO_BUFFERING, "no"));
    response
}

/// When to come back after a cut.
fn retry_hint() -> String {
    format!("retry: {}\n", RETRY_MS + rand::random_range(0..RETRY_MS))
}

/// Middleware: while the database is away, a stream is opened and ends at once. An EventSource gives up for good on any
/// answer but 200 (WHATWG HTML, 9.2.3); so it comes back.
pub(crate) async fn have_come_back(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?;
    let problem = response.response().error().and_then(Error::as_error::<Problem>);
    if problem.is_some_and(|problem| problem.code() == Code::Unavailable) {
        return Ok(response.into_response(head().body(format!("{}\n", retry_hint()))));
    }
    Ok(response.map_into_boxed_body())
}

/// What goes out on one stream.
struct ServerSentEvents {
    reader: Reader,
    named: bool,
    hello: Option<Bytes>,
    /// The last id the client was told.
    told: Position,
}

impl MessageBody for ServerSentEvents {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Ok(hello)));
        }
        loop {
            let bytes = match ready!(self.reader.poll_step(context)) {
                ReaderStep::Event(frame) => {
                    self.told = frame.position();
                    frame.sse(self.named)
                }
                // What did not match is passed over also by a client that comes back: an id without data is taken
                // note of, and dispatches nothing (WHATWG HTML, 9.2.6).
                ReaderStep::Heartbeat(cursor) if cursor > self.told => {
                    self.told = cursor;
                    Bytes::from(format!("id: {cursor}\n\n"))
                }
                ReaderStep::Heartbeat(_) => HEARTBEAT,
                ReaderStep::Scanned => continue,
                ReaderStep::Failed(error) => {
                    tracing::debug!(%error, "a stream cannot read on in the log");
                    continue;
                }
                ReaderStep::End(_) => return Poll::Ready(None),
            };
            return Poll::Ready(Some(Ok(bytes)));
        }
    }
}
