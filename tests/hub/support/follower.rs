//! A client that reads the log over any of four transports, and resumes after a disconnect.

use std::collections::VecDeque;

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::sleep;
use url::form_urlencoded;

use super::client::{Client, string_at, try_send_request};
use super::sse::EventSource;
use super::websocket::Socket;
use super::{POLL_INTERVAL, in_time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    ShortPoll,
    LongPoll,
    Sse,
    WebSocket,
}

impl Transport {
    /// Whether reading without a position starts at the newest event instead of the oldest.
    pub(crate) fn starts_live(self) -> bool {
        matches!(self, Self::Sse | Self::WebSocket)
    }
}

/// An event as it was read.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedEvent {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) data: Value,
    /// The exact JSON text.
    pub(crate) json: String,
}

impl ReceivedEvent {
    fn parse(json: &str) -> Self {
        let value: Value = serde_json::from_str(json).expect("an event is JSON");
        Self {
            id: string_at(&value, "/id"),
            event_type: string_at(&value, "/type"),
            data: value.get("data").expect("data").clone(),
            json: json.to_owned(),
        }
    }
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The body or the connection ended without an error.
    Clean,
    /// A WebSocket close frame with this code.
    Closed(u16),
    /// A status other than 200 or 101.
    Refused(u16),
    /// The connection failed with this error.
    Failed(String),
}

/// The current source of events.
#[derive(Debug)]
enum Source {
    None,
    /// The unread events of the last page, and the cursor after them.
    Page(VecDeque<ReceivedEvent>, String),
    Sse(Box<EventSource>),
    WebSocket(Socket),
}

/// Reads events one by one. It connects on demand, and resumes after the last event that it returned.
#[derive(Debug)]
pub(crate) struct Follower {
    client: Client,
    transport: Transport,
    base: String,
    types: String,
    /// The position to resume from.
    after: Option<String>,
    source: Source,
}

impl Follower {
    /// Opens `{base}/events`, `{base}/stream` or `{base}/ws`. `types` holds patterns separated by commas, or nothing;
    /// `after` an id, a time, a keyword, or nothing. A stream is open when this returns.
    pub(crate) async fn open(
        client: &Client,
        transport: Transport,
        base: &str,
        types: &str,
        after: Option<&str>,
    ) -> Self {
        let mut follower = Self::unconnected(client, transport, base, types, after);
        in_time("the follower connects", follower.connect()).await.expect("a connection");
        follower
    }

    /// The same follower, which connects at the first read.
    pub(crate) fn unconnected(
        client: &Client,
        transport: Transport,
        base: &str,
        types: &str,
        after: Option<&str>,
    ) -> Self {
        let (base, types) = (base.to_owned(), types.to_owned());
        let after = after.map(ToOwned::to_owned);
        Self { client: client.clone(), transport, base, types, after, source: Source::None }
    }

    /// Reads all events of `client`, from the oldest.
    pub(crate) async fn from_earliest(client: &Client, transport: Transport) -> Self {
        Self::open(client, transport, "/v1", "", Some("earliest")).await
    }

    fn request(&self, path: &str, more: &[(&str, &str)]) -> RequestBuilder {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.types.is_empty() {
            query.append_pair("types", &self.types);
        }
        if let Some(after) = &self.after {
            query.append_pair("after", after);
        }
        let query = query.extend_pairs(more).finish();
        self.client.request(Method::GET, &format!("{}/{path}?{query}", self.base))
    }

    async fn connect(&mut self) -> Result<(), End> {
        match self.transport {
            Transport::ShortPoll | Transport::LongPoll => {
                self.source = Source::Page(VecDeque::new(), String::new());
            }
            Transport::Sse => {
                let stream = EventSource::open(self.request("stream", &[])).await?;
                self.source = Source::Sse(Box::new(stream));
            }
            Transport::WebSocket => {
                self.source = Source::WebSocket(Socket::open(self.request("ws", &[])).await?);
            }
        }
        Ok(())
    }

    /// Disconnects, and discards events that have arrived but were not read.
    pub(crate) fn disconnect(&mut self) {
        self.source = Source::None;
    }

    /// The next event, or how reading ended.
    pub(crate) async fn try_next(&mut self) -> Result<ReceivedEvent, End> {
        loop {
            match &mut self.source {
                Source::None => self.connect().await?,
                Source::Page(events, cursor) => {
                    if let Some(event) = events.pop_front() {
                        let after = if events.is_empty() { &*cursor } else { &event.id };
                        self.after = Some(after.to_owned());
                        return Ok(event);
                    }
                    self.poll().await?;
                }
                Source::Sse(stream) => {
                    let message = stream.next().await?;
                    self.after = Some(message.id);
                    return Ok(ReceivedEvent::parse(&message.data));
                }
                Source::WebSocket(socket) => {
                    let event = ReceivedEvent::parse(&socket.next().await?);
                    self.after = Some(event.id.clone());
                    return Ok(event);
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<(), End> {
        let wait = if self.transport == Transport::LongPoll { "20" } else { "0" };
        let request = self.request("events", &[("limit", "20"), ("wait", wait)]);
        let response =
            try_send_request(request).await.map_err(|error| End::Failed(error.to_string()))?;
        if response.status != 200 {
            return Err(End::Refused(response.status));
        }
        let page: Page<'_> = serde_json::from_str(&response.body).expect("a page");
        let events: VecDeque<_> =
            page.data.iter().map(|one| ReceivedEvent::parse(one.get())).collect();
        if events.is_empty() {
            self.after = Some(page.next_cursor.to_owned());
            if self.transport == Transport::ShortPoll && !page.has_more {
                sleep(POLL_INTERVAL).await;
            }
        }
        self.source = Source::Page(events, page.next_cursor.to_owned());
        Ok(())
    }

    /// The next event; panics when there is none.
    pub(crate) async fn next(&mut self) -> ReceivedEvent {
        in_time("an event", self.try_next()).await.expect("an event")
    }

    /// The next event, reconnecting as often as needed.
    pub(crate) async fn next_with_reconnects(&mut self) -> ReceivedEvent {
        in_time("an event", async {
            loop {
                match self.try_next().await {
                    Ok(event) => return event,
                    Err(_) => self.disconnect(),
                }
                sleep(POLL_INTERVAL).await;
            }
        })
        .await
    }

    /// The ids of the next events.
    pub(crate) async fn next_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.id);
        }
        ids
    }

    /// Reads up to the first event of a type; returns the events before it.
    pub(crate) async fn read_until(&mut self, event_type: &str) -> Vec<ReceivedEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            if event.event_type == event_type {
                return events;
            }
            events.push(event);
        }
    }

    /// Waits for the end of the stream; panics when an event arrives first.
    pub(crate) async fn wait_for_end(&mut self) -> End {
        let end = in_time("the stream ends", self.try_next()).await;
        end.expect_err("the end, not an event")
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    next_cursor: &'a str,
    has_more: bool,
}

/// Turns each case, a function of a [`Transport`], into one test per transport.
macro_rules! for_every_transport {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use crate::support::follower::Transport;

            #[tokio::test]
            async fn by_short_poll() {
                super::$case(Transport::ShortPoll).await;
            }

            #[tokio::test]
            async fn by_long_poll() {
                super::$case(Transport::LongPoll).await;
            }

            #[tokio::test]
            async fn by_sse() {
                super::$case(Transport::Sse).await;
            }

            #[tokio::test]
            async fn by_websocket() {
                super::$case(Transport::WebSocket).await;
            }
        }
    )+};
}
pub(crate) use for_every_transport;
