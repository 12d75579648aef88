//! Reading by long poll, each at another node.

use hookhub::domain::position::Position;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{PAUSE, Reader, ack, id_of};
use crate::doors::{Doors, is_passing, text};

/// Reads on until `stop`.
pub(super) async fn read(doors: &Doors, reader: &Reader, stop: &CancellationToken) {
    let mut cursor = String::from("earliest");
    let mut acked = Position::START;
    while !stop.is_cancelled() {
        let path = match &reader.subscription {
            None => format!("/v1/events?types={}&after={cursor}&limit=100&wait=5", reader.pattern),
            Some(subscription) => {
                format!("/v1/subscriptions/{subscription}/events?limit=100&wait=5")
            }
        };
        let node = doors.any();
        let page = match doors.get(node, &path).await {
            Ok((status, page)) if status == 200 => page,
            Ok((status, answer)) => {
                if !is_passing(status) {
                    reader.complain(&format!("node {node} answered {path} {status}: {answer}"));
                }
                sleep(PAUSE).await;
                continue;
            }
            Err(_gone) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let last = take(reader, &page, acked);
        match (&reader.subscription, last) {
            (None, _) => text(&page, "/next_cursor").clone_into(&mut cursor),
            (Some(subscription), Some(last)) => {
                if ack(doors, reader, subscription, last).await {
                    acked = last;
                }
            }
            (Some(_), None) => {}
        }
    }
}

/// Notes a page; the last event of it.
fn take(reader: &Reader, page: &Value, acked: Position) -> Option<Position> {
    let events = page.pointer("/data").and_then(Value::as_array)?;
    let mut last = None;
    for event in events.iter().filter_map(id_of) {
        if reader.subscription.is_some() && event <= acked {
            reader.complain(&format!("{event} was served again after {acked} was acked"));
        }
        reader.saw(event);
        last = Some(event);
    }
    last
}
