//! The readers: clients without a callback URL. They read by long poll, SSE or WebSocket, each time at a random node,
//! with their own cursor or with the cursor of a pull subscription.

mod long_poll;
mod sse;
mod websocket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookhub::domain::position::Position;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::BoxError;
use super::ingress::{Ingress, is_transient, text};
use super::topology::{ALL_TYPES, EVENT_TYPES};

/// Delay between a failed request and the next one.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// A reader, and all events that it has read.
#[derive(Debug)]
pub(super) struct Reader {
    /// Label in the report.
    pub(super) name: &'static str,
    /// Event type pattern.
    pub(super) pattern: &'static str,
    /// Id of the reader's pull subscription, if the hub keeps the cursor. Events may then come again until acked.
    pub(super) subscription: Option<String>,
    events: Mutex<Vec<Position>>,
    violations: Mutex<Vec<String>>,
}

impl Reader {
    fn new(name: &'static str, pattern: &'static str, subscription: Option<String>) -> Arc<Self> {
        let (events, violations) = (Mutex::default(), Mutex::default());
        Arc::new(Self { name, pattern, subscription, events, violations })
    }

    fn record_event(&self, event: Position) {
        lock(&self.events).push(event);
    }

    fn record_violation(&self, description: &str) {
        lock(&self.violations).push(format!("{}: {description}", self.name));
    }

    /// All events, in the order of reading.
    pub(super) fn events(&self) -> Vec<Position> {
        lock(&self.events).clone()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }
}

/// Readers that run until they are dropped.
pub(super) struct Readers {
    pub(super) all: Vec<Arc<Reader>>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl Readers {
    /// Creates the pull subscriptions and starts all readers. Must run before the first publish.
    pub(super) async fn start(ingress: &Ingress) -> Result<Self, BoxError> {
        let type_2 = EVENT_TYPES[2];
        let pollers = [
            Reader::new("long poll", ALL_TYPES, None),
            Reader::new("long poll, one type", EVENT_TYPES[1], None),
            Reader::new("pull, poll", ALL_TYPES, Some(subscribe(ingress, ALL_TYPES).await?)),
            Reader::new("pull, poll, one type", type_2, Some(subscribe(ingress, type_2).await?)),
        ];
        let streams = [
            Reader::new("SSE", ALL_TYPES, None),
            Reader::new("SSE, one type", EVENT_TYPES[3], None),
            Reader::new("pull, SSE", ALL_TYPES, Some(subscribe(ingress, ALL_TYPES).await?)),
        ];
        let sockets = [
            Reader::new("WebSocket", ALL_TYPES, None),
            Reader::new("WebSocket, one type", EVENT_TYPES[5], None),
        ];
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        for reader in &pollers {
            let (ingress, reader, stop) = (ingress.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { long_poll::read(&ingress, &reader, &stop).await });
        }
        for reader in &streams {
            let (ingress, reader, stop) = (ingress.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { sse::read(&ingress, &reader, &stop).await });
        }
        for reader in &sockets {
            let (ingress, reader, stop) = (ingress.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { websocket::read(&ingress, &reader, &stop).await });
        }
        Ok(Self { all: pollers.into_iter().chain(streams).chain(sockets).collect(), _tasks: tasks })
    }
}

async fn subscribe(ingress: &Ingress, pattern: &str) -> Result<String, BoxError> {
    let body = json!({ "event_types": [pattern] });
    let (status, response) = ingress.post(0, "/v1/subscriptions", &body).await?;
    if status != 201 {
        return Err(format!("creating a pull subscription: {status} {response}").into());
    }
    Ok(text(&response, "/id").to_owned())
}

/// Acks all events up to `up_to`; returns whether the hub confirmed it.
async fn ack(ingress: &Ingress, reader: &Reader, subscription: &str, up_to: Position) -> bool {
    let path = format!("/v1/subscriptions/{subscription}/ack");
    let cursor = json!({ "cursor": up_to.to_string() });
    match ingress.post(ingress.random_node(), &path, &cursor).await {
        Ok((status, _)) if status == 200 => true,
        Ok((status, response)) if !is_transient(status) => {
            reader.record_violation(&format!("{status} to the ack of {up_to}: {response}"));
            false
        }
        Ok(_) | Err(_) => false,
    }
}

fn event_id(event: &Value) -> Option<Position> {
    text(event, "/id").parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
