//! A client that reads the log by any of four transports, and resumes after a disconnect.

use std::collections::VecDeque;

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::sleep;
use url::form_urlencoded;

use super::client::{Client, text, try_answer};
use super::sse::EventSource;
use super::websocket::Socket;
use super::{POLL, in_time};

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
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
    /// The exact JSON text.
    pub(crate) text: String,
}

impl Event {
    fn of(text_read: &str) -> Self {
        let value: Value = serde_json::from_str(text_read).expect("an event is JSON");
        Self {
            id: text(&value, "/id"),
            name: text(&value, "/type"),
            data: value.get("data").expect("its data").clone(),
            text: text_read.to_owned(),
        }
    }
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The body or the connection ended in order.
    Clean,
    /// A WebSocket close frame with this code.
    Closed(u16),
    /// A status other than 200 or 101.
    Refused(u16),
    /// The connection failed with this error.
    Cut(String),
}

/// The current source of events.
#[derive(Debug)]
enum Line {
    None,
    /// The unread events of the last page, and the cursor after them.
    Page(VecDeque<Event>, String),
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
    line: Line,
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
        let mut follower = Self::lazily(client, transport, base, types, after);
        in_time("it connects", follower.connect()).await.expect("it connects");
        follower
    }

    /// The same follower, which connects when the first event is read.
    pub(crate) fn lazily(
        client: &Client,
        transport: Transport,
        base: &str,
        types: &str,
        after: Option<&str>,
    ) -> Self {
        let (base, types) = (base.to_owned(), types.to_owned());
        let after = after.map(ToOwned::to_owned);
        Self { client: client.clone(), transport, base, types, after, line: Line::None }
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
                self.line = Line::Page(VecDeque::new(), String::new());
            }
            Transport::Sse => {
                let stream = EventSource::open(self.request("stream", &[])).await?;
                self.line = Line::Sse(Box::new(stream));
            }
            Transport::WebSocket => {
                self.line = Line::WebSocket(Socket::open(self.request("ws", &[])).await?);
            }
        }
        Ok(())
    }

    /// Disconnects, and discards events that have arrived but were not read.
    pub(crate) fn hang_up(&mut self) {
        self.line = Line::None;
    }

    /// The next event, or how reading ended.
    pub(crate) async fn try_next(&mut self) -> Result<Event, End> {
        loop {
            match &mut self.line {
                Line::None => self.connect().await?,
                Line::Page(events, cursor) => {
                    if let Some(event) = events.pop_front() {
                        let after = if events.is_empty() { &*cursor } else { &event.id };
                        self.after = Some(after.to_owned());
                        return Ok(event);
                    }
                    self.poll().await?;
                }
                Line::Sse(stream) => {
                    let message = stream.next().await?;
                    self.after = Some(message.id);
                    return Ok(Event::of(&message.data));
                }
                Line::WebSocket(socket) => {
                    let event = Event::of(&socket.next().await?);
                    self.after = Some(event.id.clone());
                    return Ok(event);
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<(), End> {
        let wait = if self.transport == Transport::LongPoll { "20" } else { "0" };
        let asked = self.request("events", &[("limit", "20"), ("wait", wait)]);
        let answer = try_answer(asked).await.map_err(|error| End::Cut(error.to_string()))?;
        if answer.status != 200 {
            return Err(End::Refused(answer.status));
        }
        let page: Page<'_> = serde_json::from_str(&answer.text).expect("a page");
        let events: VecDeque<_> = page.data.iter().map(|one| Event::of(one.get())).collect();
        if events.is_empty() {
            self.after = Some(page.next_cursor.to_owned());
            if self.transport == Transport::ShortPoll && !page.has_more {
                sleep(POLL).await;
            }
        }
        self.line = Line::Page(events, page.next_cursor.to_owned());
        Ok(())
    }

    /// The next event; panics when there is none.
    pub(crate) async fn next(&mut self) -> Event {
        in_time("an event", self.try_next()).await.expect("an event")
    }

    /// The next event, reconnecting as often as needed.
    pub(crate) async fn next_in_spite_of_cuts(&mut self) -> Event {
        in_time("an event", async {
            loop {
                match self.try_next().await {
                    Ok(event) => return event,
                    Err(_) => self.hang_up(),
                }
                sleep(POLL).await;
            }
        })
        .await
    }

    /// The ids of the next events.
    pub(crate) async fn take_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.id);
        }
        ids
    }

    /// The events before the first event of a type.
    pub(crate) async fn until(&mut self, event_type: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            if event.name == event_type {
                return events;
            }
            events.push(event);
        }
    }

    /// How the stream ends when no more events come.
    pub(crate) async fn end(&mut self) -> End {
        let end = in_time("the stream ends", self.try_next()).await;
        end.expect_err("no event but an end")
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
