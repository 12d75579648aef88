//! Waits for states of deliveries, subscriptions and connections in the hub's API.

use serde_json::Value;

use super::client::{Client, string_at};
use super::eventually;

/// The delivery of an event to a subscription, as the API lists it.
pub(crate) async fn delivery(hub: &Client, subscription: &str, event: &str) -> Option<Value> {
    let all = hub.list_all(&format!("/v1/subscriptions/{subscription}/deliveries")).await;
    all.into_iter().find(|delivery| string_at(delivery, "/event") == event)
}

/// Waits until a delivery has a status.
pub(crate) async fn wait_for_delivery(
    hub: &Client,
    subscription: &str,
    event: &str,
    status: &str,
) -> Value {
    eventually(status, async || {
        delivery(hub, subscription, event)
            .await
            .filter(|delivery| string_at(delivery, "/status") == status)
    })
    .await
}

/// Waits until a subscription has exactly `count` deliveries with a status.
pub(crate) async fn wait_for_deliveries(
    hub: &Client,
    subscription: &str,
    status: &str,
    count: usize,
) {
    let path = format!("/v1/subscriptions/{subscription}/deliveries?status={status}");
    eventually(status, async || (hub.list_all(&path).await.len() == count).then_some(())).await;
}

/// Waits until a delivery has at least `count` attempts; returns them, the first one first.
pub(crate) async fn wait_for_attempts(
    hub: &Client,
    subscription: &str,
    event: &str,
    count: usize,
) -> Vec<Value> {
    let path = format!("/v1/attempts?subscription={subscription}&event={event}");
    let mut attempts = eventually("attempts", async || {
        let attempts = hub.list_all(&path).await;
        (attempts.len() >= count).then_some(attempts)
    })
    .await;
    attempts.reverse();
    attempts
}

/// Waits until a subscription has a status.
pub(crate) async fn wait_for_status(hub: &Client, subscription: &str, status: &str) -> Value {
    eventually(status, async || {
        let subscription = hub.subscription(subscription).await;
        (string_at(&subscription, "/status") == status).then_some(subscription)
    })
    .await
}

/// Waits until `count` streams and waiting polls are open; returns them.
pub(crate) async fn wait_for_connections(hub: &Client, count: usize) -> Vec<Value> {
    eventually("connections", async || {
        let connected = hub.list_all("/v1/connections").await;
        (connected.len() == count).then_some(connected)
    })
    .await
}
