//! Failing receivers: probes, parked events, recovery, and the end of retrying.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{array_at, merged, string_at};
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{LONG_DELAY, TestReceiver, sorted};
use crate::support::waits::{wait_for_deliveries, wait_for_delivery, wait_for_status};

#[tokio::test]
async fn a_subscription_is_failing_until_its_receiver_accepts_a_delivery() {
    let hub = TestHub::start().await;
    let mut answers = vec![500; 60];
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let mut watcher = TestReceiver::start().await;
    let definition = json!({"event_types": ["hookhub.subscription.failing", "hookhub.subscription.recovered"], "ordered": true});
    hub.subscribe(&merged(watcher.subscription_to("a"), definition)).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 100).await;

    let events = watcher.take(2).await;
    let events: Vec<serde_json::Value> =
        events.iter().map(|event| serde_json::from_slice(&event.body).unwrap()).collect();
    let types: Vec<String> = events.iter().map(|event| string_at(event, "/type")).collect();
    assert_eq!(types, ["hookhub.subscription.failing", "hookhub.subscription.recovered"]);
    assert_eq!(string_at(&events[0], "/data/subscription/id"), subscription);
    assert_eq!(string_at(&events[0], "/data/subscription/status"), "failing");

    wait_for_status(&hub, &subscription, "active").await;
    wait_for_deliveries(&hub, &subscription, "delivered", 100).await;
    let mut arrived = receiver.drain();
    assert_eq!(arrived.len(), 160);
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, ids);
}

#[tokio::test]
async fn a_failing_receiver_is_probed_even_without_a_due_retry() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut answers = vec![500; 20];
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let definition = merged(receiver.subscription_to("n"), json!({"max_in_flight": 1}));
    let subscription = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 50).await;
    assert_eq!(receiver.next_ids(20).await, ids[..20]);
    wait_for_status(&hub, &subscription, "failing").await;
    assert_eq!(receiver.next_ids(30).await, ids[20..], "the first delivery was a probe");
    wait_for_deliveries(&hub, &subscription, "retrying", 20).await;
    wait_for_status(&hub, &subscription, "active").await;
}

#[tokio::test]
async fn failing_is_stored_and_survives_a_restart() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let receiver = TestReceiver::responding(&[500]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 100).await;
    wait_for_status(&hub, &subscription, "failing").await;
    let listed = hub.get("/v1/subscriptions?status=failing").await.expect(200);
    assert_eq!(array_at(&listed, "/data").len(), 1);
    let database = hub.stop().await;

    let mut receiver_is_back = TestReceiver::start().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    assert_eq!(hub.subscription(&subscription).await["status"], "failing");
    let path = format!("/v1/subscriptions/{subscription}");
    let elsewhere = json!({"callback_url": receiver_is_back.url(), "retry_schedule_s": [1]});
    let patched = hub.send(reqwest::Method::PATCH, &path, &elsewhere).await.expect(200);
    assert_eq!(patched["status"], "active", "the new receiver has not failed yet");
    let parked = hub.list_all(&format!("{path}/deliveries?status=pending")).await.len();
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
    let mut receiver = TestReceiver::responding(&answers).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.subscription.disabled")).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 100).await;
    let disabled = wait_for_status(&hub, &subscription, "disabled").await;
    assert!(
        string_at(&disabled, "/disabled_reason").contains("no delivery succeeded"),
        "{disabled}"
    );
    watcher.next().await;
    let parked =
        hub.list_all(&format!("/v1/subscriptions/{subscription}/deliveries?status=pending")).await;
    assert!(parked.len() > 50, "{}", parked.len());
    assert!(receiver.drain().len() < 1_000);
}

#[tokio::test]
async fn an_exhausted_delivery_is_published_as_an_event() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::responding(&[500]).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.delivery.exhausted")).await;
    let definition = merged(
        receiver.subscription_to("a"),
        json!({"retry_schedule_s": [1], "give_up_after_s": 1}),
    );
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let notice: serde_json::Value = serde_json::from_slice(&watcher.next().await.body).unwrap();
    assert_eq!(string_at(&notice, "/data/subscription"), subscription);
    assert_eq!(string_at(&notice, "/data/event"), event);
    let delivery = wait_for_delivery(&hub, &subscription, &event, "exhausted").await;
    assert_eq!(notice["data"]["attempts"], array_at(&delivery, "/attempts").len());
}

#[tokio::test]
async fn events_that_a_receiver_always_rejects_do_not_delay_the_others() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut answers: Vec<u16> = (0..300).map(|n| if n % 15 == 14 { 200 } else { 422 }).collect();
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let subscription =
        hub.subscribe(&merged(receiver.subscription_to("n"), json!({"max_in_flight": 1}))).await;
    let ids = hub.publish_many("n", 400).await;
    assert_eq!(sorted(receiver.next_ids(400).await), ids);
    wait_for_deliveries(&hub, &subscription, "retrying", 280).await;
    assert_eq!(hub.subscription(&subscription).await["status"], "active");
}
