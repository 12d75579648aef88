//! Whether the hub has come to rest: what it still wants to deliver when everything was taken.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::cast::CALLBACKS;
use super::doors::{Doors, text};

/// How long it may take: a result that was lost with its node is known once the delivery was made again.
const PATIENCE: Duration = Duration::from_secs(20);
/// States of deliveries that none must be in.
const UNREST: [&str; 2] = ["pending", "retrying"];

/// What is not at rest in time, of these subscriptions, a line for each.
pub(super) async fn unrest(doors: &Doors, subscriptions: &[String]) -> Vec<String> {
    let (began, mut found) = (Instant::now(), Vec::new());
    for (subscription, callback) in subscriptions.iter().zip(CALLBACKS) {
        for state in UNREST {
            let path = format!("/v1/subscriptions/{subscription}/deliveries?status={state}");
            while let Some(left) = left(doors, &path).await {
                if began.elapsed() > PATIENCE {
                    found.push(format!("\"{}\": the hub says {state}: {left}", callback.name));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    found
}

/// The first delivery of a list, or why there is no list. A page may be empty with more to come: the hub looks at so
/// much of the log and no more at a time.
async fn left(doors: &Doors, path: &str) -> Option<String> {
    let mut after = String::new();
    loop {
        let page = match doors.get(doors.any(), &format!("{path}{after}")).await {
            Ok((status, page)) if status == 200 => page,
            Ok((status, answer)) => return Some(format!("{status} {answer}")),
            Err(error) => return Some(error.to_string()),
        };
        if let Some(first) = page.pointer("/data/0") {
            return Some(first.to_string());
        }
        if page.pointer("/has_more") != Some(&Value::Bool(true)) {
            return None;
        }
        after = format!("&after={}", text(&page, "/next_cursor"));
    }
}
