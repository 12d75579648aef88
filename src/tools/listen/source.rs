//! A hub's stream of server-sent events, read by one connection at a time and resumed by the next.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use tokio::time::timeout;
use url::Url;

use super::{ListenError, ListenSettings, read_body};
use crate::domain::event::event_type::Pattern;
use crate::domain::root_cause::root_cause;
use crate::domain::time::UnixMillis;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for a response that is not a stream, and for the head of one that is.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum size of an event, and of a response that is not a stream.
const MAX_BYTES: usize = 32 << 20;
/// At most this much of a hub's reason for a refusal is shown.
const MAX_SHOWN_CHARS: usize = 1_000;

/// The reason why the stream cannot be opened or read.
#[derive(Debug)]
pub(super) enum StreamError {
    /// A retry may succeed.
    Temporary(String),
    /// A retry would fail too.
    Refused(String),
}

/// An event, with its JSON text as received.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) timestamp: String,
    #[serde(skip)]
    pub(super) text: String,
}

/// A hub, and the position to resume from.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    hub: Url,
    authorization: HeaderValue,
    types: Option<String>,
    /// The cursor for the next connection. `None`: the end of the log, until the hub has reported it.
    after: Option<String>,
}

/// An open event stream.
pub(super) struct Connection {
    messages: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    /// The bytes received since the last message.
    unread: Arc<AtomicUsize>,
}

impl Source {
    /// Does not connect. Fails if the key is empty or not valid in a header, or if the HTTP client cannot be built.
    pub(super) fn new(settings: &ListenSettings) -> Result<Self, ListenError> {
        let client = Client::builder()
            .user_agent(super::USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(settings.hub_timeout)
            .build()?;
        let types = settings.types.iter().map(Pattern::as_str).collect::<Vec<_>>();
        Ok(Self {
            client,
            hub: settings.hub.clone(),
            authorization: bearer(&settings.key).ok_or(ListenError::Key)?,
            types: (!types.is_empty()).then(|| types.join(",")),
            after: settings.since.map(|since| since.to_after(UnixMillis::now())),
        })
    }

    /// Resumes where the last connection ended, or begins at the configured start. Fails with a permanent error if the
    /// hub refuses, or does not respond with an event stream.
    pub(super) async fn connect(&mut self) -> Result<Connection, StreamError> {
        let after = match &self.after {
            Some(after) => after.clone(),
            None => self.log_head().await?,
        };
        let response = self.send(self.request("stream", &after)).await?;
        let content_type = text_of(response.headers(), &CONTENT_TYPE).unwrap_or("no content type");
        // An EventSource refuses any other content type too (WHATWG HTML, 9.2.3).
        if !content_type.starts_with("text/event-stream") {
            let reason =
                format!("{} responded with {content_type}, not with an event stream", self.hub);
            return Err(StreamError::Refused(printable(&reason)));
        }
        self.after = Some(after);
        Ok(Connection::over(response))
    }

    /// The cursor of the newest event, from which to resume if the stream breaks before its first event.
    async fn log_head(&self) -> Result<String, StreamError> {
        let request = self.request("events", "now").timeout(RESPONSE_TIMEOUT);
        let text = read(self.send(request).await?).await?;
        let page: EventPage = serde_json::from_slice(&text).map_err(|error| {
            StreamError::Refused(format!("{} did not respond like a hub: {error}", self.hub))
        })?;
        Ok(page.next_cursor)
    }

    /// `GET /v1/<path>` for the selected event types. The events begin after the cursor `after`.
    fn request(&self, path: &str, after: &str) -> RequestBuilder {
        let mut url = self.hub.clone();
        url.set_path(&format!("{}/v1/{path}", url.path().trim_end_matches('/')));
        let types = self.types.as_deref().map(|types| ("types", types));
        url.query_pairs_mut().append_pair("after", after).extend_pairs(types);
        self.client.get(url).header(AUTHORIZATION, self.authorization.clone())
    }

    /// Sends a request. Fails with the hub's reason unless the status is 200.
    async fn send(&self, request: RequestBuilder) -> Result<Response, StreamError> {
        let late = |_elapsed| StreamError::Temporary("the hub did not respond in time".to_owned());
        let sent = timeout(RESPONSE_TIMEOUT, request.send()).await.map_err(late)?;
        let response = sent.map_err(|error| temporary(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let location = text_of(response.headers(), &LOCATION).map(str::to_owned);
        let body = read(response).await?;
        let detail = match (serde_json::from_slice::<Problem>(&body), location) {
            (Ok(problem), _) => format!("{status}: {}", problem.detail),
            (Err(_no_problem_details), Some(location)) => {
                format!("{status}: redirected to {location}")
            }
            (Err(_no_problem_details), None) => status.to_string(),
        };
        let detail = printable(&detail);
        let is_temporary = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let error = if is_temporary { StreamError::Temporary } else { StreamError::Refused };
        Err(error(detail))
    }

    /// Records the message's id as the cursor to resume from. `None`: no data. Fails if the data are not an event.
    pub(super) fn handle_message(&mut self, message: Sse) -> Result<Option<Event>, StreamError> {
        let (id, data) = (message.id, message.data);
        let event = data.map(|data| {
            let read = serde_json::from_str::<Event>(&data).map_err(|error| {
                StreamError::Refused(format!("the stream contains an invalid event: {error}"))
            })?;
            Ok(Event { text: data, ..read })
        });
        let event = event.transpose()?;
        self.after = id.filter(|id| !id.is_empty()).or(self.after.take());
        Ok(event)
    }
}

impl Connection {
    fn over(response: Response) -> Self {
        let unread = Arc::new(AtomicUsize::new(0));
        let body = Box::pin(response.bytes_stream());
        let body = SizeLimitedBody { body, unread: Arc::clone(&unread) };
        Self { messages: Box::pin(SseByteStream::new(body)), unread }
    }

    /// The next message; `None` at the end of the stream. Fails with a temporary error if the connection breaks, or if a
    /// message is too large.
    pub(super) async fn next(&mut self) -> Result<Option<Sse>, StreamError> {
        let message = std::future::poll_fn(|context| self.messages.as_mut().poll_next(context));
        let message = message.await.transpose().map_err(|error| temporary(&error))?;
        self.unread.store(0, Ordering::Relaxed);
        Ok(message)
    }
}

/// A body that fails when more than about [`MAX_BYTES`] arrive without a complete message.
struct SizeLimitedBody<S> {
    body: Pin<Box<S>>,
    unread: Arc<AtomicUsize>,
}

impl<S: Stream<Item = reqwest::Result<Bytes>>> Stream for SizeLimitedBody<S> {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.as_mut().poll_next(context).map(|piece| {
            let bytes = match piece? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error.into())),
            };
            let unread = self.unread.fetch_add(bytes.len(), Ordering::Relaxed);
            Some(if unread > MAX_BYTES { Err(BodyError::TooLong) } else { Ok(bytes) })
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("an event is larger than {} MiB", MAX_BYTES >> 20)]
    TooLong,
    #[error(transparent)]
    Wire(#[from] reqwest::Error),
}

async fn read(mut response: Response) -> Result<Vec<u8>, StreamError> {
    read_body(&mut response, MAX_BYTES).await.map_err(|error| temporary(&error))
}

/// The value of the header `Authorization`. `None`: the key is empty, or contains characters that a header cannot.
fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    (!key.trim().is_empty()).then_some(value)
}

/// Returns the value of the header `name`. `None`: the header is missing, or not visible ASCII.
fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Replaces control characters by spaces, and cuts the text after [`MAX_SHOWN_CHARS`].
fn printable(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn temporary(error: &(dyn std::error::Error + 'static)) -> StreamError {
    StreamError::Temporary(root_cause(error).to_string())
}

#[derive(Deserialize)]
struct EventPage {
    next_cursor: String,
}

/// The relevant part of problem details (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}
