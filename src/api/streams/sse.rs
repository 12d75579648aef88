//! Server-Sent Events.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use super::resume::{named, resume_point, start};
use crate::api::auth::context::AuthorizedReader;
use crate::api::http::input::Parameters;
use crate::api::http::query::TOKEN;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::worker;
use crate::domain::position::Position;
use crate::streaming::presence::Transport;
use crate::streaming::resume::ResumePoint;
use crate::streaming::{Reader, ReaderStep};

/// Makes nginx forward events at once instead of buffering them.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The shortest delay before a client reconnects. Each stream names a random one, up to twice as long.
const MIN_RECONNECT_DELAY_MS: u32 = 1_000;
/// A comment, so that proxies do not close an idle connection.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// `GET /v1/stream`: streams the matching events as server-sent events.
pub(super) async fn stream(
    AuthorizedReader(context, access, parameters): AuthorizedReader<Parameters>,
) -> ApiResult {
    let query = parameters.known(&["types", "after", "last_event_id", "named", TOKEN])?;
    let filter = access.filter(&query)?;
    let named = named(&query)?;
    let point = resume_point(&context.request, &query)?.unwrap_or(ResumePoint::Now);
    let start = start(&context.api.streams, filter, &point).await?;
    let reader = Reader::new(&worker(&context.request)?, start, Transport::Sse);
    let reader = reader.count_as_connection(Transport::Sse, context.owner())?;
    if let Some(expires) = access.token_expires_at() {
        reader.expire_at(expires);
    }
    Ok(server_sent_events(&context.request, reader, named))
}

/// Streams until the client disconnects or the reader ends. `named`: each event has its type in `event:`. HEAD gets the
/// headers only.
pub(crate) fn server_sent_events(
    request: &HttpRequest,
    reader: Reader,
    named: bool,
) -> HttpResponse {
    let mut response = head();
    if request.method() == Method::HEAD {
        return response.finish();
    }
    // The id comes first, so that a client that is cut off before its first event resumes here too.
    let sent_id = reader.cursor();
    let preamble = Some(Bytes::from(format!("{}id: {sent_id}\n\n", retry_hint())));
    response.body(ServerSentEvents { reader, named, preamble, sent_id })
}

/// Starts the 200 response of a stream.
fn head() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((NO_BUFFERING, "no"));
    response
}

/// Returns a `retry:` line with a random delay of 1 to 2 s, which the client waits before it reconnects.
fn retry_hint() -> String {
    format!("retry: {}\n", MIN_RECONNECT_DELAY_MS + rand::random_range(0..MIN_RECONNECT_DELAY_MS))
}

/// Replaces a 503 by a 200 stream without events, which ends at once: an EventSource never reconnects after another status
/// (WHATWG HTML, 9.2.3).
pub(crate) async fn reconnect_when_unavailable(
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

struct ServerSentEvents {
    reader: Reader,
    named: bool,
    /// Sent before the first event.
    preamble: Option<Bytes>,
    /// The last id that was sent.
    sent_id: Position,
}

impl MessageBody for ServerSentEvents {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(preamble) = self.preamble.take() {
            return Poll::Ready(Some(Ok(preamble)));
        }
        loop {
            let bytes = match ready!(self.reader.poll_step(context)) {
                ReaderStep::Event(frame) => {
                    self.sent_id = frame.position();
                    frame.sse(self.named)
                }
                // A client that reconnects should skip the events that did not match. An id without data moves its
                // last event id and dispatches no event (WHATWG HTML, 9.2.6).
                ReaderStep::Heartbeat(cursor) if cursor > self.sent_id => {
                    self.sent_id = cursor;
                    Bytes::from(format!("id: {cursor}\n\n"))
                }
                ReaderStep::Heartbeat(_) => HEARTBEAT,
                ReaderStep::Scanned => continue,
                ReaderStep::Failed(error) => {
                    tracing::debug!(%error, "a stream failed to read the log and retries");
                    continue;
                }
                ReaderStep::End(_) => return Poll::Ready(None),
            };
            return Poll::Ready(Some(Ok(bytes)));
        }
    }
}
