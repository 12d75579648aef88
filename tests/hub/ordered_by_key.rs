//! Subscriptions with `order_by`: events with one order key stay in order and do not delay other keys.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, merged, string_at};
use crate::support::gate::Gate;
use crate::support::hub::{TestHub, every};
use crate::support::receiver::TestReceiver;
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};

/// Long enough that a busy machine does everything that a test does before the first retry.
const RETRY_DELAY: Duration = Duration::from_secs(12);

fn by_order(definition: Value) -> Value {
    merged(definition, json!({"order_by": "/order"}))
}

async fn publish(hub: &Client, order: &str) -> String {
    hub.publish("n", json!({"order": order})).await
}

#[tokio::test]
async fn events_of_one_order_key_are_delivered_in_order_and_in_parallel_to_other_keys() {
    let hub = TestHub::start().await;
    let gate = Gate::closed().await;
    let id =
        hub.subscribe(&by_order(json!({"event_types": ["n"], "callback_url": gate.url()}))).await;
    let mut of_key = [Vec::new(), Vec::new()];
    for _ in 0..20 {
        of_key[0].push(publish(&hub, "a").await);
        of_key[1].push(publish(&hub, "b").await);
    }
    gate.wait_until_held(2).await;
    gate.release_all();
    wait_for_deliveries(&hub, &id, "delivered", 40).await;
    let state = gate.state();
    assert_eq!(state.max_held, 2);
    for ids in of_key {
        let arrived: Vec<_> = state.arrived.iter().filter(|id| ids.contains(id)).cloned().collect();
        assert_eq!(arrived, ids);
    }
}

#[tokio::test]
async fn a_failing_event_holds_back_only_its_own_order_key_also_across_a_restart() {
    let with_slow_retries = |settings: &mut hookhub::config::Settings| {
        settings.retry_schedule = every(RETRY_DELAY);
    };
    let hub = TestHub::start_with(with_slow_retries).await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let id = hub.subscribe(&by_order(receiver.subscription_to("n"))).await;
    let first = publish(&hub, "a").await;
    receiver.next().await;
    wait_for_delivery(&hub, &id, &first, "retrying").await;
    let second = publish(&hub, "a").await;
    let mut others = Vec::new();
    for order in ["b", "c", "b"] {
        others.push(publish(&hub, order).await);
    }
    for _ in &others {
        assert!(others.contains(&receiver.next().await.id));
    }
    let database = hub.stop().await;

    let hub = TestHub::start_on(&database, with_slow_retries).await;
    let third = publish(&hub, "a").await;
    assert_eq!(receiver.next_ids(3).await, [first, second, third]);
    wait_for_deliveries(&hub, &id, "delivered", 6).await;
}

#[tokio::test]
async fn an_order_key_continues_after_an_exhausted_event_that_is_reported() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.delivery.exhausted")).await;
    let once = json!({"retry_schedule_s": [100], "give_up_after_s": 50});
    let id = hub.subscribe(&merged(by_order(receiver.subscription_to("n")), once)).await;
    let (first, second) = (publish(&hub, "a").await, publish(&hub, "a").await);
    assert_eq!(receiver.next_ids(2).await, [first.clone(), second]);
    let notice: Value = serde_json::from_slice(&watcher.next().await.body).unwrap();
    assert_eq!(
        (string_at(&notice, "/data/subscription"), string_at(&notice, "/data/event")),
        (id, first)
    );
}

#[tokio::test]
async fn an_order_key_with_a_thousand_held_back_events_does_not_delay_other_keys() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(RETRY_DELAY)).await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let id = hub.subscribe(&by_order(receiver.subscription_to("n"))).await;
    let first = publish(&hub, "a").await;
    receiver.next().await;
    let batch: Vec<Value> =
        (0..600).map(|_| json!({"type": "n", "data": {"order": "a"}})).collect();
    for _ in 0..2 {
        hub.post("/v1/events", &json!(batch)).await.expect(202);
    }
    let other = publish(&hub, "b").await;
    assert_eq!(
        receiver.next().await.id,
        other,
        "it does not wait for a thousand events of another key"
    );
    let rest = receiver.next_ids(1_201).await;
    assert_eq!(rest.first(), Some(&first));
    assert!(rest.is_sorted());
    wait_for_deliveries(&hub, &id, "delivered", 1_202).await;
}

#[tokio::test]
async fn an_invalid_order_by_pointer_is_refused_by_name() {
    let hub = TestHub::start().await;
    for bad in ["order", "/a~2", "/a~"] {
        let definition =
            json!({"event_types": ["n"], "callback_url": "https://example.com/", "order_by": bad});
        hub.post("/v1/subscriptions", &definition).await.expect_invalid("/order_by");
    }
}
