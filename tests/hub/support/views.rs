//! Waits for states of deliveries, subscriptions and connections in the hub's API.

use serde_json::Value;

use super::client::{Client, text};
use super::eventually;

/// The delivery of an event to a subscription, as the API lists it.
pub(crate) async fn delivery(hub: &Client, subscription: &str, event: &str) -> Option<Value> {
    let all = hub.all(&format!("/v1/subscriptions/{subscription}/deliveries")).await;
    all.into_iter().find(|delivery| text(delivery, "/event") == event)
}

/// Waits until a delivery has a state.
pub(crate) async fn until_state(
    hub: &Client,
    subscription: &str,
    event: &str,
    state: &str,
) -> Value {
    eventually(state, async || {
        delivery(hub, subscription, event)
            .await
            .filter(|delivery| text(delivery, "/status") == state)
    })
    .await
}

/// Waits until a subscription has `count` deliveries in a state and no others.
pub(crate) async fn until_all(hub: &Client, subscription: &str, state: &str, count: usize) {
    let path = format!("/v1/subscriptions/{subscription}/deliveries?status={state}");
    eventually(state, async || (hub.all(&path).await.len() == count).then_some(())).await;
}

/// Waits until a delivery has `count` attempts; returns them, the first one first.
pub(crate) async fn until_attempts(
    hub: &Client,
    subscription: &str,
    event: &str,
    count: usize,
) -> Vec<Value> {
    let path = format!("/v1/attempts?subscription={subscription}&event={event}");
    let mut attempts = eventually("attempts", async || {
        let attempts = hub.all(&path).await;
        (attempts.len() >= count).then_some(attempts)
    })
    .await;
    attempts.reverse();
    attempts
}

/// Waits until a subscription has a status.
pub(crate) async fn until_status(hub: &Client, subscription: &str, status: &str) -> Value {
    eventually(status, async || {
        let subscription = hub.subscription(subscription).await;
        (text(&subscription, "/status") == status).then_some(subscription)
    })
    .await
}

/// Waits until `count` streams and waiting polls are open; returns them.
pub(crate) async fn until_connected(hub: &Client, count: usize) -> Vec<Value> {
    eventually("connections", async || {
        let connected = hub.all("/v1/connections").await;
        (connected.len() == count).then_some(connected)
    })
    .await
}
