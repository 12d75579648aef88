//! Failing receivers: probes, parked events, recovery, and the end of retrying.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{each, text, with};
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{NEVER, TestReceiver, sorted};
use crate::support::views::{until_all, until_state, until_status};

#[tokio::test]
async fn a_subscription_is_failing_until_its_receiver_accepts_a_delivery() {
    let hub = TestHub::start().await;
    let mut answers = vec![500; 60];
    answers.push(200);
    let mut receiver = TestReceiver::answering(&answers).await;
    let mut watcher = TestReceiver::start().await;
    let definition = json!({"event_types": ["hookhub.subscription.failing", "hookhub.subscription.recovered"], "ordered": true});
    hub.subscribe(&with(watcher.wants("a"), definition)).await;
    let subscription = hub.subscribe(&receiver.wants("n")).await;
    let ids = hub.publish_many("n", 100).await;

    let events = watcher.take(2).await;
    let said: Vec<serde_json::Value> =
        events.iter().map(|event| serde_json::from_slice(&event.body).unwrap()).collect();
    let types: Vec<String> = said.iter().map(|event| text(event, "/type")).collect();
    assert_eq!(types, ["hookhub.subscription.failing", "hookhub.subscription.recovered"]);
    assert_eq!(text(&said[0], "/data/subscription/id"), subscription);
    assert_eq!(text(&said[0], "/data/subscription/status"), "failing");

    until_status(&hub, &subscription, "active").await;
    until_all(&hub, &subscription, "delivered", 100).await;
    let mut arrived = receiver.more();
    assert_eq!(arrived.len(), 160);
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, ids);
}

#[tokio::test]
async fn a_failing_receiver_is_probed_even_without_a_due_retry() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(NEVER)).await;
    let mut answers = vec![500; 20];
    answers.push(200);
    let mut receiver = TestReceiver::answering(&answers).await;
    let definition = with(receiver.wants("n"), json!({"max_in_flight": 1}));
    let subscription = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 50).await;
    assert_eq!(receiver.take_ids(20).await, ids[..20]);
    until_status(&hub, &subscription, "failing").await;
    assert_eq!(receiver.take_ids(30).await, ids[20..], "the first one was a probe");
    until_all(&hub, &subscription, "retrying", 20).await;
    until_status(&hub, &subscription, "active").await;
}

#[tokio::test]
async fn failing_is_stored_and_survives_a_restart() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(NEVER)).await;
    let receiver = TestReceiver::answering(&[500]).await;
    let subscription = hub.subscribe(&receiver.wants("n")).await;
    hub.publish_many("n", 100).await;
    until_status(&hub, &subscription, "failing").await;
    let listed = hub.get("/v1/subscriptions?status=failing").await.expect(200);
    assert_eq!(each(&listed, "/data").len(), 1);
    let database = hub.stop().await;

    let mut receiver_is_back = TestReceiver::start().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    assert_eq!(hub.subscription(&subscription).await["status"], "failing");
    let path = format!("/v1/subscriptions/{subscription}");
    let elsewhere = json!({"callback_url": receiver_is_back.url(), "retry_schedule_s": [1]});
    let patched = hub.send(reqwest::Method::PATCH, &path, &elsewhere).await.expect(200);
    assert_eq!(patched["status"], "active", "the receiver there has done nothing wrong yet");
    let parked = hub.all(&format!("{path}/deliveries?status=pending")).await.len();
    receiver_is_back.take(parked).await;
}

#[tokio::test]
async fn a_subscription_that_fails_too_long_is_disabled_and_keeps_its_undelivered_events() {
    let hub = TestHub::start_with(|settings| {
        settings.retry_schedule.give_up_after = Duration::from_secs(1);
    })
    .await;
    let mut answers = vec![500; 1_000];
    answers.push(200);
    let mut receiver = TestReceiver::answering(&answers).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.wants("hookhub.subscription.disabled")).await;
    let subscription = hub.subscribe(&receiver.wants("n")).await;
    hub.publish_many("n", 100).await;
    let disabled = until_status(&hub, &subscription, "disabled").await;
    assert!(text(&disabled, "/disabled_reason").contains("no delivery succeeded"), "{disabled}");
    watcher.next().await;
    let parked =
        hub.all(&format!("/v1/subscriptions/{subscription}/deliveries?status=pending")).await;
    assert!(parked.len() > 50, "{}", parked.len());
    assert!(receiver.more().len() < 1_000);
}

#[tokio::test]
async fn an_exhausted_delivery_is_published_as_an_event() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::answering(&[500]).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.wants("hookhub.delivery.exhausted")).await;
    let definition =
        with(receiver.wants("a"), json!({"retry_schedule_s": [1], "give_up_after_s": 1}));
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let notice: serde_json::Value = serde_json::from_slice(&watcher.next().await.body).unwrap();
    assert_eq!(text(&notice, "/data/subscription"), subscription);
    assert_eq!(text(&notice, "/data/event"), event);
    let delivery = until_state(&hub, &subscription, &event, "exhausted").await;
    assert_eq!(notice["data"]["attempts"], each(&delivery, "/attempts").len());
}

#[tokio::test]
async fn events_that_a_receiver_always_rejects_do_not_delay_the_others() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(NEVER)).await;
    let mut answers: Vec<u16> = (0..300).map(|n| if n % 15 == 14 { 200 } else { 422 }).collect();
    answers.push(200);
    let mut receiver = TestReceiver::answering(&answers).await;
    let subscription = hub.subscribe(&with(receiver.wants("n"), json!({"max_in_flight": 1}))).await;
    let ids = hub.publish_many("n", 400).await;
    assert_eq!(sorted(receiver.take_ids(400).await), ids);
    until_all(&hub, &subscription, "retrying", 280).await;
    assert_eq!(hub.subscription(&subscription).await["status"], "active");
}
