//! Reading by long poll, each request at a random node.

use hookhub::domain::position::Position;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{RETRY_DELAY, Reader, ack, event_id};
use crate::ingress::{Ingress, is_transient, text};

/// Reads until `stop`.
pub(super) async fn read(ingress: &Ingress, reader: &Reader, stop: &CancellationToken) {
    let mut cursor = String::from("earliest");
    let mut acked = Position::START;
    while !stop.is_cancelled() {
        let path = match &reader.subscription {
            None => format!("/v1/events?types={}&after={cursor}&limit=100&wait=5", reader.pattern),
            Some(subscription) => {
                format!("/v1/subscriptions/{subscription}/events?limit=100&wait=5")
            }
        };
        let node = ingress.random_node();
        let page = match ingress.get(node, &path).await {
            Ok((status, page)) if status == 200 => page,
            Ok((status, response)) => {
                if !is_transient(status) {
                    reader.record_violation(&format!(
                        "node {node} responded {status} to {path}: {response}"
                    ));
                }
                sleep(RETRY_DELAY).await;
                continue;
            }
            Err(_error) => {
                sleep(RETRY_DELAY).await;
                continue;
            }
        };
        let last = record_page(reader, &page, acked);
        match (&reader.subscription, last) {
            (None, _) => text(&page, "/next_cursor").clone_into(&mut cursor),
            (Some(subscription), Some(last)) => {
                if ack(ingress, reader, subscription, last).await {
                    acked = last;
                }
            }
            (Some(_), None) => {}
        }
    }
}

/// Records the events of a page; returns the last one.
fn record_page(reader: &Reader, page: &Value, acked: Position) -> Option<Position> {
    let events = page.pointer("/data").and_then(Value::as_array)?;
    let mut last = None;
    for event in events.iter().filter_map(event_id) {
        if reader.subscription.is_some() && event <= acked {
            reader.record_violation(&format!("{event} was sent again after the ack of {acked}"));
        }
        reader.record_event(event);
        last = Some(event);
    }
    last
}
