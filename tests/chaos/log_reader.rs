//! Reads the whole log from the hub when publishing has ended.

use std::time::{Duration, Instant};

use hookhub::domain::position::Position;
use serde_json::Value;

use super::BoxError;
use super::checker::LoggedEvent;
use super::ingress::{Ingress, text};
use super::topology::ALL_TYPES;

/// How long reading one page is retried.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Every event that the run published, in log order.
pub(super) async fn read_log(ingress: &Ingress) -> Result<Vec<LoggedEvent>, BoxError> {
    let (mut log, mut cursor) = (Vec::new(), String::from("earliest"));
    loop {
        let page = read_page(ingress, &cursor).await?;
        let events =
            page.pointer("/data").and_then(Value::as_array).ok_or("a page without data")?;
        for event in events {
            log.push(parse_event(event).ok_or_else(|| format!("not an event: {event}"))?);
        }
        text(&page, "/next_cursor").clone_into(&mut cursor);
        if page.pointer("/has_more") != Some(&Value::Bool(true)) {
            return Ok(log);
        }
    }
}

async fn read_page(ingress: &Ingress, cursor: &str) -> Result<Value, BoxError> {
    let path = format!("/v1/events?types={ALL_TYPES}&after={cursor}&limit=250");
    let started = Instant::now();
    loop {
        match ingress.get(ingress.random_node(), &path).await {
            Ok((status, page)) if status == 200 => return Ok(page),
            other if started.elapsed() > PAGE_TIMEOUT => {
                return Err(format!("cannot read the log: {other:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn parse_event(event: &Value) -> Option<LoggedEvent> {
    let number = event.pointer("/data/n")?.as_u64()?;
    Some(LoggedEvent {
        position: text(event, "/id").parse::<Position>().ok()?,
        event_type: text(event, "/type").to_owned(),
        number: usize::try_from(number).ok()?,
    })
}
