//! Paused subscriptions: the cursor stands still, no event is lost, and resume delivers the parked events.

use std::time::Duration;

use serde_json::json;

use crate::support::client::merged;
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};

#[tokio::test]
async fn a_paused_subscription_receives_nothing_until_it_is_resumed_and_then_everything() {
    let hub = TestHub::start().await;
    let mut parked = TestReceiver::start().await;
    let mut other = TestReceiver::start().await;
    let id = hub.subscribe(&merged(parked.subscription_to("n"), json!({"ordered": true}))).await;
    hub.subscribe(&other.subscription_to("n")).await;
    hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
    let ids = hub.publish_many("n", 1_500).await;
    other.take(1_500).await;
    assert!(parked.drain().is_empty());
    wait_for_deliveries(&hub, &id, "pending", 1_500).await;

    hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    assert_eq!(parked.next_ids(1_500).await, ids, "in order, because the subscription is ordered");
    let last = hub.publish("n", json!("live again")).await;
    assert_eq!(parked.next().await.id, last);
}

#[tokio::test]
async fn parked_events_survive_a_restart() {
    let hub = TestHub::start().await;
    let mut parked = TestReceiver::start().await;
    let mut other = TestReceiver::start().await;
    let id = hub.subscribe(&parked.subscription_to("n")).await;
    hub.subscribe(&other.subscription_to("n")).await;
    hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
    let ids = hub.publish_many("n", 20).await;
    assert_eq!(sorted(other.next_ids(20).await), ids);
    let database = hub.stop().await;

    let hub = TestHub::start_on(&database, |_| ()).await;
    let more = hub.publish_many("n", 5).await;
    assert_eq!(sorted(other.next_ids(5).await), more, "delivered events are not repeated");
    assert!(parked.drain().is_empty());
    hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    assert_eq!(sorted(parked.next_ids(25).await), [ids, more].concat());
}

#[tokio::test]
async fn a_paused_subscription_is_not_retried() {
    let hub =
        TestHub::start_with(|settings| settings.retry_schedule = every(Duration::from_secs(5)))
            .await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let mut clock = TestReceiver::responding(&[500, 500, 200]).await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    let first = hub.publish("a", json!(1)).await;
    receiver.next().await;
    hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);

    // Two retries of another subscription take longer than one retry delay (5 s plus or minus a fifth).
    hub.subscribe(&clock.subscription_to("b")).await;
    hub.publish("b", json!(1)).await;
    clock.take(3).await;
    assert!(receiver.drain().is_empty());

    hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    let again = receiver.next().await;
    assert_eq!((again.id, again.attempt), (first.clone(), 2));
    wait_for_delivery(&hub, &id, &first, "delivered").await;
}

#[tokio::test]
async fn pause_and_resume_under_load_lose_and_duplicate_no_event() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.extend(hub.publish_many("n", 50).await);
        hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
        ids.extend(hub.publish_many("n", 50).await);
        hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    }
    wait_for_deliveries(&hub, &id, "delivered", 800).await;
    assert_eq!(sorted(receiver.drain()), ids);
}
