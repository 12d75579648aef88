//! Checks that the hub lists no delivery as outstanding once the receivers have accepted everything.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::ingress::{Ingress, text};
use super::topology::WEBHOOKS;

/// How long a delivery may stay outstanding. A result that was lost with its node is only known after a new attempt.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Delivery states that count as outstanding.
const OUTSTANDING: [&str; 2] = ["pending", "retrying"];

/// A line for each webhook and state with a delivery still outstanding after [`TIMEOUT`].
pub(super) async fn outstanding(ingress: &Ingress, subscriptions: &[String]) -> Vec<String> {
    let (started, mut found) = (Instant::now(), Vec::new());
    for (subscription, webhook) in subscriptions.iter().zip(WEBHOOKS) {
        for state in OUTSTANDING {
            let path = format!("/v1/subscriptions/{subscription}/deliveries?status={state}");
            while let Some(delivery) = first_delivery(ingress, &path).await {
                if started.elapsed() > TIMEOUT {
                    found.push(format!("\"{}\": still {state}: {delivery}", webhook.name));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    found
}

/// The first delivery of a list, or the reason why the list cannot be read.
///
/// The hub searches a limited part of the log for each page, so a page can be empty and have a next page.
async fn first_delivery(ingress: &Ingress, path: &str) -> Option<String> {
    let mut after = String::new();
    loop {
        let page = match ingress.get(ingress.random_node(), &format!("{path}{after}")).await {
            Ok((status, page)) if status == 200 => page,
            Ok((status, body)) => return Some(format!("{status} {body}")),
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
