//! Rate limits of deliveries: the owner's limit, and the receiver's 429 responses.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::merged;
use crate::support::gate::Gate;
use crate::support::hub::TestHub;
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::waits::wait_for_deliveries;

#[tokio::test]
async fn attempts_per_second_stay_within_the_owners_rate_limit() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"rate_limit_per_s": 20}))).await;
    // The clock starts before the first attempt, because a busy receiver may notice that one late.
    let started = Instant::now();
    let ids = hub.publish_many("n", 32).await;
    let arrived = receiver.take(32).await;
    let took = started.elapsed();
    // Two attempts may start at once; thirty more are 50 ms apart.
    assert!(took >= Duration::from_millis(1_400), "{took:?}");
    assert_eq!(sorted(arrived.into_iter().map(|delivery| delivery.id).collect()), ids);
}

#[tokio::test]
async fn a_receiver_that_answers_429_gets_fewer_attempts_at_once() {
    let hub = TestHub::start().await;
    let status = |n| if n < 15 { "429 Too Many Requests" } else { "200 OK" };
    let gate = Gate::closed_with(status).await;
    let id = hub.subscribe(&json!({"event_types": ["n"], "callback_url": gate.url()})).await;
    hub.publish_many("n", 64).await;
    // The first sixteen attempts run at the same time. Their responses halve the AIMD window.
    gate.wait_until_held(16).await;
    gate.release(16);
    gate.wait_for("the next attempt", |state| state.arrived.len() > 16).await;
    gate.reset_max_held();
    for n in 18..=40 {
        gate.release(1);
        gate.wait_for("the next attempt", |state| state.arrived.len() >= n).await;
    }
    let max_held = gate.state().max_held;
    assert!(max_held <= 12, "{max_held} attempts at once");
    gate.release_all();
    wait_for_deliveries(&hub, &id, "delivered", 64).await;
}

#[tokio::test]
async fn an_invalid_rate_limit_is_refused_by_name() {
    let hub = TestHub::start().await;
    for bad in [json!(0), json!(10_001), json!("7")] {
        let definition = json!({"event_types": ["n"], "callback_url": "https://example.com/", "rate_limit_per_s": bad});
        hub.post("/v1/subscriptions", &definition).await.expect_invalid("/rate_limit_per_s");
    }
}
