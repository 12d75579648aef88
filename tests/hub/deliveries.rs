//! Deliveries to a receiver: which events, how often, and with which bytes, headers and signature.

use std::collections::HashMap;

use hookhub::domain::signing::secret::{Secret, Signed};
use hookhub::domain::time::UnixMillis;
use hookhub::tools::receive::ReceiverSettings;
use reqwest::Method;
use serde_json::json;

use crate::support::client::{merged, string_at};
use crate::support::gate::Gate;
use crate::support::hub::TestHub;
use crate::support::receiver::{SECRET, TestReceiver, sorted};
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};

#[tokio::test]
async fn a_delivery_carries_the_event_as_the_api_returns_it_and_standard_webhooks_headers() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let extra = json!({"headers": {"x-shop": "7", "Authorization": "Basic c2hvcA=="}});
    let subscription = hub.subscribe(&merged(receiver.subscription_to("order.*"), extra)).await;
    let before = UnixMillis::now().seconds();
    let event = hub.publish("order.paid", json!({"amount": 7})).await;

    let delivery = receiver.next().await;
    assert_eq!(delivery.body, hub.get(&format!("/v1/events/{event}")).await.body);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", concat!("hookhub/", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", &event),
        ("webhook-attempt", "1"),
        ("webhook-subscription", &subscription),
        ("x-shop", "7"),
        ("authorization", "Basic c2hvcA=="),
    ] {
        assert_eq!(delivery.header(name), Some(value), "{name}");
    }
    let timestamp: i64 = delivery.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((before..=UnixMillis::now().seconds()).contains(&timestamp), "{timestamp}");
    assert_eq!(delivery.path, "/hooks");
}

#[tokio::test]
async fn a_generated_secret_verifies_the_deliveries() {
    let hub = TestHub::start().await;
    let unchecked = ReceiverSettings { secrets: Vec::new(), ..TestReceiver::settings() };
    let (receiver, mut deliveries) =
        hookhub::tools::receive::Receiver::start(unchecked).await.unwrap();
    let url = format!("http://{}/", receiver.address());
    let definition = json!({"event_types": ["*"], "callback_url": url});
    let created = hub.post("/v1/subscriptions", &definition).await.expect(201);
    let secret: Secret = string_at(&created, "/secret").parse().unwrap();
    hub.publish("order.paid", json!("é \u{1f980}")).await;

    let delivery = deliveries.recv().await.unwrap();
    let header = |name| delivery.header(name).unwrap();
    let signed = Signed {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    assert_eq!(secret.verify(&signed, &delivery.body, UnixMillis::now()), Ok(()));
    let other: Secret = SECRET.parse().unwrap();
    assert!(other.verify(&signed, &delivery.body, UnixMillis::now()).is_err());
}

#[tokio::test]
async fn each_subscription_receives_only_events_that_match_its_patterns() {
    let hub = TestHub::start().await;
    let mut receivers = HashMap::new();
    for pattern in ["order.*", "*.paid", "*", "order.paid", "order.*.eu"] {
        let receiver = TestReceiver::start().await;
        hub.subscribe(&receiver.subscription_to(pattern)).await;
        receivers.insert(pattern, receiver);
    }
    let mut ids = HashMap::new();
    for event_type in ["order.paid", "order.paid.eu", "invoice.paid", "order", "other", "the.end"] {
        ids.insert(event_type, hub.publish(event_type, json!(1)).await);
    }
    let everything = ["order.paid", "order.paid.eu", "invoice.paid", "order", "other", "the.end"];
    for (pattern, wanted) in [
        ("order.*", &["order.paid", "order.paid.eu"][..]),
        ("*.paid", &["order.paid", "invoice.paid"]),
        ("order.paid", &["order.paid"]),
        ("order.*.eu", &["order.paid.eu"]),
        ("*", &everything),
    ] {
        let receiver = receivers.get_mut(pattern).unwrap();
        let expected: Vec<_> = wanted.iter().map(|event_type| ids[event_type].clone()).collect();
        assert_eq!(sorted(receiver.next_ids(wanted.len()).await), sorted(expected), "{pattern}");
    }
    // Events are matched in log order: once "*" has the last event, all events are matched.
    assert!(receivers.values_mut().all(|receiver| receiver.drain().is_empty()));
}

#[tokio::test]
async fn without_failures_each_event_arrives_once_at_each_subscription() {
    let hub = TestHub::start().await;
    let mut receivers = Vec::new();
    for _ in 0..5 {
        let receiver = TestReceiver::start().await;
        let id = hub.subscribe(&receiver.subscription_to("n")).await;
        receivers.push((id, receiver));
    }
    let ids = hub.publish_many("n", 400).await;
    for (subscription, receiver) in &mut receivers {
        assert_eq!(sorted(receiver.next_ids(400).await), ids);
        wait_for_deliveries(&hub, subscription, "delivered", 400).await;
        assert!(receiver.drain().is_empty());
    }
}

#[tokio::test]
async fn a_pattern_change_applies_to_the_events_after_it() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("old")).await;
    let first = hub.publish("old", json!(1)).await;
    let path = format!("/v1/subscriptions/{id}");
    hub.send(Method::PATCH, &path, &json!({"event_types": ["new"]})).await.expect(200);
    hub.publish("old", json!(2)).await;
    let second = hub.publish("new", json!(3)).await;
    assert_eq!(sorted(receiver.next_ids(2).await), [first, second.clone()]);
    wait_for_delivery(&hub, &id, &second, "delivered").await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_callback_change_applies_to_the_attempts_after_it() {
    let hub = TestHub::start().await;
    let mut old = TestReceiver::responding(&[500]).await;
    let mut new = TestReceiver::start().await;
    let id = hub.subscribe(&old.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    assert_eq!(old.next().await.id, event);
    hub.send(
        Method::PATCH,
        &format!("/v1/subscriptions/{id}"),
        &json!({"callback_url": new.url()}),
    )
    .await
    .expect(200);
    assert_eq!(new.next().await.id, event);
    wait_for_delivery(&hub, &id, &event, "delivered").await;
}

#[tokio::test]
async fn concurrent_attempts_stay_within_the_concurrency_of_the_subscription() {
    let hub = TestHub::start().await;
    let gate = Gate::closed().await;
    let definition = json!({"event_types": ["n"], "callback_url": gate.url(), "max_in_flight": 3});
    let id = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 20).await;
    gate.wait_until_held(3).await;
    for passed in 1..=10 {
        gate.release(1);
        gate.wait_for("the next comes up", |seen| seen.arrived.len() == 3 + passed).await;
    }
    gate.release_all();
    wait_for_deliveries(&hub, &id, "delivered", 20).await;
    let seen = gate.state();
    assert_eq!(seen.max_held, 3);
    assert_eq!(sorted(seen.arrived), ids);
}

#[tokio::test]
async fn an_ordered_subscription_has_one_attempt_in_flight_in_log_order() {
    let hub = TestHub::start().await;
    let gate = Gate::closed().await;
    let definition = json!({"event_types": ["n"], "callback_url": gate.url(), "ordered": true, "max_in_flight": 10});
    let id = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 30).await;
    gate.release_all();
    wait_for_deliveries(&hub, &id, "delivered", 30).await;
    let seen = gate.state();
    assert_eq!((seen.max_held, seen.arrived), (1, ids));
}

#[tokio::test]
async fn a_lagging_subscription_catches_up_by_its_own_cursor_and_rejoins_the_tail() {
    let hub = TestHub::start().await;
    let gate = Gate::closed().await;
    let mut healthy = TestReceiver::start().await;
    let definition = json!({"event_types": ["n"], "callback_url": gate.url(), "timeout_s": 30});
    let slow = hub.subscribe(&definition).await;
    hub.subscribe(&healthy.subscription_to("n")).await;
    let mut ids = hub.publish_many("n", 1_600).await;
    assert_eq!(
        sorted(healthy.next_ids(1_600).await),
        ids,
        "one delivery does not wait for the other"
    );

    gate.release_all();
    gate.wait_for("it catches up", |seen| seen.arrived.len() >= 1_600).await;
    ids.push(hub.publish("n", json!("the last")).await);
    gate.wait_for("it goes on with the others", |seen| seen.arrived.len() >= 1_601).await;
    wait_for_delivery(&hub, &slow, &ids[1_600], "delivered").await;
    assert_eq!(sorted(gate.state().arrived), ids, "no event is lost or duplicated");
}

#[tokio::test]
async fn no_attempt_begins_after_the_response_to_a_deletion() {
    let hub = TestHub::start().await;
    let mut deleted = TestReceiver::responding(&[500]).await;
    let mut other = TestReceiver::start().await;
    let definition = merged(deleted.subscription_to("n"), json!({"max_in_flight": 1}));
    let id = hub.subscribe(&definition).await;
    hub.subscribe(&other.subscription_to("n")).await;
    hub.publish_many("n", 5).await;
    deleted.take(8).await;

    assert_eq!(hub.delete(&format!("/v1/subscriptions/{id}")).await.status, 204);
    // A request that arrives now was in flight at the response: at most one.
    let mut late = deleted.drain().len().min(1);
    let ids = hub.publish_many("n", 100).await;
    other.take(5 + ids.len()).await;
    late = deleted.drain().len().saturating_sub(late);
    assert!(late <= 1, "{late} attempts after the deletion");
}
