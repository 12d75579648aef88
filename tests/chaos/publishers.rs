//! The publishers: single events and batches, each request to a random node. A request with an idempotency key is
//! repeated until its response is definite; a request without one is sent once.

use std::sync::Arc;
use std::time::Duration;

use hookhub::domain::position::Position;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::ingress::{Ingress, is_transient, send, text, with_json};
use super::ledger::Ledger;
use super::topology::EVENT_TYPES;

const PUBLISHERS: u32 = 12;
/// Events per batch.
const BATCH_SIZE: std::ops::RangeInclusive<usize> = 2..=12;
const BATCH_PERCENT: u32 = 30;
/// Mean number of events per request; follows from the two above.
const EVENTS_PER_REQUEST: f64 = 2.8;
/// Delay before a request with an ambiguous response is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// How long ambiguous requests are repeated after publishing has ended.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(45);

/// Publishes about `rate` events per second until `until`, then resolves all requests that have a key.
pub(super) async fn run(ingress: &Ingress, ledger: &Arc<Ledger>, rate: f64, until: Instant) {
    let mean_delay = Duration::from_secs_f64(f64::from(PUBLISHERS) * EVENTS_PER_REQUEST / rate);
    let mut tasks = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publisher = Publisher { ingress: ingress.clone(), ledger: Arc::clone(ledger), until };
        tasks.spawn(async move {
            while Instant::now() < until {
                sleep(mean_delay.mul_f64(rand::random_range(0.0..2.0))).await;
                publisher.publish().await;
            }
        });
    }
    tasks.join_all().await;
}

struct Publisher {
    ingress: Ingress,
    ledger: Arc<Ledger>,
    until: Instant,
}

enum PublishResult {
    Definite,
    /// The events may or may not be in the log.
    Ambiguous,
}

impl Publisher {
    /// Sends one request and its repeats.
    async fn publish(&self) {
        let is_batch = rand::random_range(0..100) < BATCH_PERCENT;
        let count = if is_batch { rand::random_range(BATCH_SIZE) } else { 1 };
        let numbers: Vec<usize> = (0..count).map(|_| self.ledger.add_event()).collect();
        let events: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
        let first = numbers.first().copied().unwrap_or_default();
        let key = rand::random::<bool>().then(|| format!("chaos-{first}"));
        let body = match (is_batch, events.first()) {
            (false, Some(event)) => event.clone(),
            _ => Value::Array(events),
        };
        loop {
            match self.send(&numbers, &body, key.as_deref()).await {
                PublishResult::Definite => return,
                PublishResult::Ambiguous if key.is_none() => return,
                PublishResult::Ambiguous if Instant::now() > self.until + RESOLVE_TIMEOUT => {
                    let violation = format!("no definite response for key chaos-{first}");
                    self.ledger.record_violation(violation);
                    return;
                }
                PublishResult::Ambiguous => sleep(RETRY_DELAY).await,
            }
        }
    }

    async fn send(&self, numbers: &[usize], body: &Value, key: Option<&str>) -> PublishResult {
        let node = self.ingress.random_node();
        let request = self.ingress.request(node, Method::POST, "/v1/events");
        let mut request = with_json(request, body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let (status, response) = match send(request).await {
            Ok(response) => response,
            Err(error) => {
                let reason = if error.is_timeout() { "timeout" } else { "no response" };
                self.ledger.count_response(reason);
                return PublishResult::Ambiguous;
            }
        };
        self.ledger.count_response(status.as_str());
        match status {
            StatusCode::ACCEPTED => {
                self.record_acknowledged(numbers, node, &response);
                PublishResult::Definite
            }
            status if is_transient(status) => PublishResult::Ambiguous,
            // An earlier request with this key is still in progress on this node.
            StatusCode::CONFLICT if key.is_some() => PublishResult::Ambiguous,
            _ => {
                let violation = format!("node {node} responded {status} to a publish: {response}");
                self.ledger.record_violation(violation);
                PublishResult::Definite
            }
        }
    }

    fn record_acknowledged(&self, numbers: &[usize], node: usize, response: &Value) {
        let single = std::slice::from_ref(response);
        let receipts =
            response.pointer("/data").and_then(Value::as_array).map_or(single, Vec::as_slice);
        if receipts.len() != numbers.len() {
            let count = numbers.len();
            let violation = format!("wrong number of receipts for {count} events: {response}");
            self.ledger.record_violation(violation);
        }
        for (number, receipt) in numbers.iter().zip(receipts) {
            match text(receipt, "/id").parse::<Position>() {
                Ok(id) => self.ledger.record_acknowledged(*number, node, id),
                Err(_invalid) => {
                    self.ledger.record_violation(format!("202 without an id: {receipt}"));
                }
            }
        }
    }
}

fn event(number: usize) -> Value {
    let event_type =
        EVENT_TYPES.get(rand::random_range(0..EVENT_TYPES.len())).unwrap_or(&EVENT_TYPES[0]);
    let pad = "x".repeat(rand::random_range(0..1_500));
    json!({ "type": event_type, "data": { "n": number, "pad": pad } })
}
