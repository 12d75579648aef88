//! The publishers: singles and batches to any node; with a key until there is a definite answer, without one once.

use std::sync::Arc;
use std::time::Duration;

use hookhub::domain::position::Position;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::book::Book;
use super::cast::TYPES;
use super::doors::{Doors, answer_of, is_passing, text, with_json};

/// How many publish at the same time.
const PUBLISHERS: u32 = 12;
/// Events of a batch, and how many of a hundred requests are one.
const BATCH: std::ops::RangeInclusive<usize> = 2..=12;
const BATCHES_OF_100: u32 = 30;
/// Events of a request, on average.
const EVENTS_OF_A_REQUEST: f64 = 2.8;
/// A repeat comes so long after an unclear answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an unclear answer is looked into when publishing has ended.
const RESOLVE: Duration = Duration::from_secs(45);

/// Publishes about so many events a second until `until`, and comes to an end with all that has a key.
pub(super) async fn run(doors: &Doors, book: &Arc<Book>, rate: f64, until: Instant) {
    let gap = Duration::from_secs_f64(f64::from(PUBLISHERS) * EVENTS_OF_A_REQUEST / rate);
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publisher = Publisher { doors: doors.clone(), book: Arc::clone(book), until };
        publishers.spawn(async move {
            while Instant::now() < until {
                sleep(gap.mul_f64(rand::random_range(0.0..2.0))).await;
                publisher.publish().await;
            }
        });
    }
    publishers.join_all().await;
}

struct Publisher {
    doors: Doors,
    book: Arc<Book>,
    until: Instant,
}

/// What a request came to.
enum Answer {
    Definite,
    Unclear,
}

impl Publisher {
    /// One request, with its repeats.
    async fn publish(&self) {
        let is_batch = rand::random_range(0..100) < BATCHES_OF_100;
        let count = if is_batch { rand::random_range(BATCH) } else { 1 };
        let numbers: Vec<usize> = (0..count).map(|_| self.book.open()).collect();
        let events: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
        let first = numbers.first().copied().unwrap_or_default();
        let key = rand::random::<bool>().then(|| format!("torture-{first}"));
        let body = match (is_batch, events.first()) {
            (false, Some(event)) => event.clone(),
            _ => Value::Array(events),
        };
        loop {
            match self.send(&numbers, &body, key.as_deref()).await {
                Answer::Definite => return,
                Answer::Unclear if key.is_none() => return,
                Answer::Unclear if Instant::now() > self.until + RESOLVE => {
                    self.book.complain(format!("no definite answer for key torture-{first}"));
                    return;
                }
                Answer::Unclear => sleep(PAUSE).await,
            }
        }
    }

    async fn send(&self, numbers: &[usize], body: &Value, key: Option<&str>) -> Answer {
        let node = self.doors.any();
        let mut request = with_json(self.doors.ask(node, Method::POST, "/v1/events"), body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let (status, answer) = match answer_of(request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.book.count(if error.is_timeout() { "none in time" } else { "none" });
                return Answer::Unclear;
            }
        };
        self.book.count(status.as_str());
        match status {
            StatusCode::ACCEPTED => {
                self.note(numbers, node, &answer);
                Answer::Definite
            }
            passing if is_passing(passing) => Answer::Unclear,
            // The first sending still runs, on this node.
            StatusCode::CONFLICT if key.is_some() => Answer::Unclear,
            _ => {
                self.book.complain(format!("node {node} answered a publish {status}: {answer}"));
                Answer::Definite
            }
        }
    }

    fn note(&self, numbers: &[usize], node: usize, answer: &Value) {
        let alone = std::slice::from_ref(answer);
        let receipts =
            answer.pointer("/data").and_then(Value::as_array).map_or(alone, Vec::as_slice);
        if receipts.len() != numbers.len() {
            let count = numbers.len();
            self.book.complain(format!("an answer for {count} events: {answer}"));
        }
        for (number, receipt) in numbers.iter().zip(receipts) {
            match text(receipt, "/id").parse::<Position>() {
                Ok(id) => self.book.acknowledge(*number, node, id),
                Err(_none) => self.book.complain(format!("202 without an id: {receipt}")),
            }
        }
    }
}

fn event(number: usize) -> Value {
    let event_type = TYPES.get(rand::random_range(0..TYPES.len())).unwrap_or(&TYPES[0]);
    let pad = "x".repeat(rand::random_range(0..1_500));
    json!({ "type": event_type, "data": { "n": number, "pad": pad } })
}
