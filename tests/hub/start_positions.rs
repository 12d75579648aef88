//! Start positions in the past: the earliest event, an event, or a time.

use hookhub::domain::time::UnixMillis;
use serde_json::json;

use crate::support::client::{merged, string_at};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::waits::wait_for_deliveries;

#[tokio::test]
async fn a_new_subscription_starts_at_the_current_position_by_default() {
    let hub = TestHub::start().await;
    hub.publish_many("n", 10).await;
    for from in [json!({}), json!({"from": "now"})] {
        let mut receiver = TestReceiver::start().await;
        hub.subscribe(&merged(receiver.subscription_to("n"), from)).await;
        let event = hub.publish("n", json!("new")).await;
        assert_eq!(receiver.next().await.id, event);
    }
}

#[tokio::test]
async fn a_subscription_from_the_earliest_event_receives_all_history_and_then_new_events() {
    let hub = TestHub::start().await;
    let mut ids = hub.publish_many("n", 1_200).await;
    hub.publish_many("other", 10).await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub
        .subscribe(&merged(
            receiver.subscription_to("n"),
            json!({"from": "earliest", "ordered": true}),
        ))
        .await;
    ids.extend(hub.publish_many("n", 20).await);
    assert_eq!(receiver.next_ids(1_220).await, ids);
    wait_for_deliveries(&hub, &subscription, "delivered", 1_220).await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_subscription_from_an_event_receives_that_event_first() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 10).await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"from": ids[4]}))).await;
    let live = hub.publish("n", json!("live")).await;
    let mut expected = ids[4..].to_vec();
    expected.push(live);
    assert_eq!(sorted(receiver.next_ids(7).await), expected);
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_subscription_from_a_time_receives_the_events_accepted_since() {
    let hub = TestHub::start().await;
    hub.publish_many("n", 10).await;
    let now = UnixMillis::now();
    eventually("the clock advances", async || (UnixMillis::now() > now).then_some(())).await;
    let since = UnixMillis::now();
    let ids = hub.publish_many("n", 10).await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"from": since.to_string()}))).await;
    assert_eq!(sorted(receiver.next_ids(10).await), ids);
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_subscription_created_during_startup_receives_its_history() {
    let mut hub = TestHub::start().await;
    let ids = hub.publish_many("n", 10).await;
    for _ in 0..8 {
        hub = TestHub::start_on(&hub.stop().await, |_| ()).await;
        let mut receiver = TestReceiver::start().await;
        hub.subscribe(&merged(receiver.subscription_to("n"), json!({"from": "earliest"}))).await;
        assert_eq!(sorted(receiver.next_ids(10).await), ids);
    }
}

#[tokio::test]
async fn history_across_a_restart_is_delivered_without_loss_or_duplicates() {
    let hub = TestHub::start().await;
    let mut ids = hub.publish_many("n", 500).await;
    let mut receiver = TestReceiver::start().await;
    let subscription =
        hub.subscribe(&merged(receiver.subscription_to("n"), json!({"from": "earliest"}))).await;
    receiver.take(5).await;
    let database = hub.stop().await;
    let before = 5 + receiver.drain().len();

    let hub = TestHub::start_on(&database, |_| ()).await;
    ids.push(hub.publish("n", json!("after")).await);
    wait_for_deliveries(&hub, &subscription, "delivered", 501).await;
    assert_eq!(before + receiver.drain().len(), 501);
    let listed = hub.list_all("/v1/events?types=n").await;
    assert_eq!(listed.iter().map(|event| string_at(event, "/id")).collect::<Vec<_>>(), ids);
}
