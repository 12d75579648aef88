//! The log as it is in the end, read from the hub.

use std::time::{Duration, Instant};

use hookhub::domain::position::Position;
use serde_json::Value;

use super::Anything;
use super::cast::EVERYTHING;
use super::check::Logged;
use super::doors::{Doors, text};

/// How long one page may be asked for again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every event of the torture, in order.
pub(super) async fn whole_log(doors: &Doors) -> Result<Vec<Logged>, Anything> {
    let (mut log, mut cursor) = (Vec::new(), String::from("earliest"));
    loop {
        let page = page(doors, &cursor).await?;
        let events = page.pointer("/data").and_then(Value::as_array).ok_or("a page")?;
        for event in events {
            log.push(logged(event).ok_or_else(|| format!("no event: {event}"))?);
        }
        text(&page, "/next_cursor").clone_into(&mut cursor);
        if page.pointer("/has_more") != Some(&Value::Bool(true)) {
            return Ok(log);
        }
    }
}

async fn page(doors: &Doors, cursor: &str) -> Result<Value, Anything> {
    let path = format!("/v1/events?types={EVERYTHING}&after={cursor}&limit=250");
    let began = Instant::now();
    loop {
        match doors.get(doors.any(), &path).await {
            Ok((status, page)) if status == 200 => return Ok(page),
            other if began.elapsed() > PATIENCE => {
                return Err(format!("the log cannot be read: {other:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn logged(event: &Value) -> Option<Logged> {
    let number = event.pointer("/data/n")?.as_u64()?;
    Some(Logged {
        position: text(event, "/id").parse::<Position>().ok()?,
        event_type: text(event, "/type").to_owned(),
        number: usize::try_from(number).ok()?,
    })
}
