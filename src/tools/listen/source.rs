//! A hub's stream of server-sent events, read by one connection at a time and resumed by the next.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use url::Url;

use super::{ListenError, ListenSettings};
use crate::domain::event::event_type::Pattern;
use crate::domain::root_cause::root_cause;
use crate::domain::time::UnixMillis;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long an answer that is no stream may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// The largest event that is taken, and the most that is read of an answer.
const MOST_READ: usize = 32 << 20;
/// The most characters that are shown of why a hub refuses.
const MOST_SHOWN: usize = 1_000;

/// Why there is no stream, or no more of it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be there again.
    Passing(String),
    /// Asking again would not help.
    Refused(String),
}

/// An event as it was read.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) timestamp: String,
    #[serde(skip)]
    pub(super) text: String,
}

/// A hub to read from, and how far it was read.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    hub: Url,
    authorization: HeaderValue,
    types: Option<String>,
    /// Where the next connection goes on; unknown until the hub was asked where its log ends.
    after: Option<String>,
}

/// An open stream.
pub(super) struct Connection {
    messages: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    unread: Arc<AtomicUsize>,
}

impl Source {
    pub(super) fn new(settings: &ListenSettings) -> Result<Self, ListenError> {
        let client = Client::builder()
            .user_agent(super::USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(settings.silence)
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

    /// Opens the stream where the last one ended.
    pub(super) async fn connect(&mut self) -> Result<Connection, Trouble> {
        let after = match &self.after {
            Some(after) => after.clone(),
            None => self.end_of_the_log().await?,
        };
        let response = self.send(self.request("stream", &after)).await?;
        let content_type = text_of(response.headers(), &CONTENT_TYPE).unwrap_or("no content type");
        // Any other body is no stream to a reader either (WHATWG HTML, 9.2.3).
        if !content_type.starts_with("text/event-stream") {
            let why = format!("{} answers with {content_type}, not as a hub does", self.hub);
            return Err(Trouble::Refused(shown(&why)));
        }
        self.after = Some(after);
        Ok(Connection::over(response))
    }

    /// Asked once: a stream that breaks before its first event must not begin anew with what comes then.
    async fn end_of_the_log(&self) -> Result<String, Trouble> {
        let request = self.request("events", "now").timeout(ANSWER_DEADLINE);
        let text = read(self.send(request).await?).await?;
        let page: Page = serde_json::from_slice(&text).map_err(|error| {
            Trouble::Refused(format!("{} does not answer as a hub does: {error}", self.hub))
        })?;
        Ok(page.next_cursor)
    }

    fn request(&self, path: &str, after: &str) -> RequestBuilder {
        let mut url = self.hub.clone();
        url.set_path(&format!("{}/v1/{path}", url.path().trim_end_matches('/')));
        let types = self.types.as_deref().map(|types| ("types", types));
        url.query_pairs_mut().append_pair("after", after).extend_pairs(types);
        self.client.get(url).header(AUTHORIZATION, self.authorization.clone())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let sent = tokio::time::timeout(ANSWER_DEADLINE, request.send()).await;
        let response = match sent {
            Ok(sent) => sent.map_err(|error| passing(&error))?,
            Err(_elapsed) => return Err(Trouble::Passing("it does not answer".to_owned())),
        };
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let elsewhere = text_of(response.headers(), &LOCATION).map(str::to_owned);
        let body = read(response).await?;
        let detail = match (serde_json::from_slice::<Problem>(&body), elsewhere) {
            (Ok(problem), _) => format!("{status}: {}", problem.detail),
            (Err(_no_problem_details), Some(place)) => format!("{status}: it is at {place}"),
            (Err(_no_problem_details), None) => status.to_string(),
        };
        let detail = shown(&detail);
        let may_pass = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(if may_pass { Trouble::Passing(detail) } else { Trouble::Refused(detail) })
    }

    /// Takes what a message says of the place; gives its event, if it has one.
    pub(super) fn take(&mut self, message: Sse) -> Result<Option<Event>, Trouble> {
        let (id, data) = (message.id, message.data);
        let event = data.map(|data| {
            let read = serde_json::from_str::<Event>(&data).map_err(|error| {
                Trouble::Refused(format!("the stream has what is no event: {error}"))
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
        let body = Bounded { body: Box::pin(response.bytes_stream()), unread: Arc::clone(&unread) };
        Self { messages: Box::pin(SseByteStream::new(body)), unread }
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Sse>, Trouble> {
        let message = std::future::poll_fn(|context| self.messages.as_mut().poll_next(context));
        let message = message.await.transpose().map_err(|error| passing(&error))?;
        self.unread.store(0, Ordering::Relaxed);
        Ok(message)
    }
}

/// A body that ends in an error when more than [`MOST_READ`] comes between two events.
struct Bounded<S> {
    body: Pin<Box<S>>,
    unread: Arc<AtomicUsize>,
}

impl<S: Stream<Item = reqwest::Result<Bytes>>> Stream for Bounded<S> {
    type Item = Result<Bytes, Broken>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.body.as_mut().poll_next(context).map(|piece| {
            let bytes = match piece? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error.into())),
            };
            let unread = self.unread.fetch_add(bytes.len(), Ordering::Relaxed);
            Some(if unread > MOST_READ { Err(Broken::TooLong) } else { Ok(bytes) })
        })
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("an event is larger than {} MiB", MOST_READ >> 20)]
    TooLong,
    #[error(transparent)]
    Wire(#[from] reqwest::Error),
}

async fn read(mut response: Response) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while body.len() < MOST_READ {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(passing(&error)),
        }
    }
    Ok(body)
}

/// A header of authorisation that is not shown; `None` if the key cannot be in one.
fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    (!key.trim().is_empty()).then_some(value)
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a stranger says, as far as it is fit for a terminal; longer than [`super::SingleLine`], as nothing comes after it.
fn shown(text: &str) -> String {
    text.chars().take(MOST_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn passing(error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble::Passing(root_cause(error).to_string())
}

/// What is read of a page of events.
#[derive(Deserialize)]
struct Page {
    next_cursor: String,
}

/// What is read of problem details (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}
