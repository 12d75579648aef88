//! Those who read without a callback: by poll and by stream, with a cursor of their own or the hub's, at any node.

mod poll;
mod socket;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookhub::domain::position::Position;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Anything;
use super::cast::{EVERYTHING, TYPES};
use super::doors::{Doors, is_passing, text};

/// Between a failure and the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// A reader, and all that it has seen.
#[derive(Debug)]
pub(super) struct Reader {
    /// For people.
    pub(super) name: &'static str,
    /// The types it reads.
    pub(super) pattern: &'static str,
    /// Its subscription, where the hub keeps the cursor: then an event may come again until it was acked.
    pub(super) subscription: Option<String>,
    seen: Mutex<Vec<Position>>,
    oddities: Mutex<Vec<String>>,
}

impl Reader {
    fn new(name: &'static str, pattern: &'static str, subscription: Option<String>) -> Arc<Self> {
        let (seen, oddities) = (Mutex::default(), Mutex::default());
        Arc::new(Self { name, pattern, subscription, seen, oddities })
    }

    fn saw(&self, event: Position) {
        locked(&self.seen).push(event);
    }

    fn complain(&self, what: &str) {
        locked(&self.oddities).push(format!("{}: {what}", self.name));
    }

    /// What came, in the order in which it came.
    pub(super) fn seen(&self) -> Vec<Position> {
        locked(&self.seen).clone()
    }

    /// What must not be.
    pub(super) fn oddities(&self) -> Vec<String> {
        locked(&self.oddities).clone()
    }
}

/// Readers at work until they are dropped.
pub(super) struct Readers {
    /// Each.
    pub(super) all: Vec<Arc<Reader>>,
    /// Held for its drop.
    _tasks: JoinSet<()>,
}

impl Readers {
    /// Makes the pull subscriptions and sets all readers to work. Nothing may be published before.
    pub(super) async fn start(doors: &Doors) -> Result<Self, Anything> {
        let polls = [
            Reader::new("long poll", EVERYTHING, None),
            Reader::new("long poll, one type", TYPES[1], None),
            Reader::new("pull by poll", EVERYTHING, Some(subscribe(doors, EVERYTHING).await?)),
            Reader::new(
                "pull by poll, one type",
                TYPES[2],
                Some(subscribe(doors, TYPES[2]).await?),
            ),
        ];
        let streams = [
            Reader::new("stream", EVERYTHING, None),
            Reader::new("stream, one type", TYPES[3], None),
            Reader::new("pull by stream", EVERYTHING, Some(subscribe(doors, EVERYTHING).await?)),
        ];
        let sockets = [
            Reader::new("WebSocket", EVERYTHING, None),
            Reader::new("WebSocket, one type", TYPES[5], None),
        ];
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        for reader in &polls {
            let (doors, reader, stop) = (doors.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { poll::read(&doors, &reader, &stop).await });
        }
        for reader in &streams {
            let (doors, reader, stop) = (doors.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { stream::read(&doors, &reader, &stop).await });
        }
        for reader in &sockets {
            let (doors, reader, stop) = (doors.clone(), Arc::clone(reader), stop.clone());
            tasks.spawn(async move { socket::read(&doors, &reader, &stop).await });
        }
        Ok(Self { all: polls.into_iter().chain(streams).chain(sockets).collect(), _tasks: tasks })
    }
}

async fn subscribe(doors: &Doors, pattern: &str) -> Result<String, Anything> {
    let wanted = json!({ "event_types": [pattern] });
    let (status, made) = doors.post(0, "/v1/subscriptions", &wanted).await?;
    if status != 201 {
        return Err(format!("a pull subscription: {status} {made}").into());
    }
    Ok(text(&made, "/id").to_owned())
}

/// Acks up to an event; whether the hub says that it is done.
async fn ack(doors: &Doors, reader: &Reader, subscription: &str, up_to: Position) -> bool {
    let path = format!("/v1/subscriptions/{subscription}/ack");
    let cursor = json!({ "cursor": up_to.to_string() });
    match doors.post(doors.any(), &path, &cursor).await {
        Ok((status, _)) if status == 200 => true,
        Ok((status, answer)) if !is_passing(status) => {
            reader.complain(&format!("ack of {up_to} was answered {status}: {answer}"));
            false
        }
        Ok(_) | Err(_) => false,
    }
}

/// An event's id in its JSON.
fn id_of(event: &Value) -> Option<Position> {
    text(event, "/id").parse().ok()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
