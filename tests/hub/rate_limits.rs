//! Rate limits of deliveries: the owner's limit, and the receiver's 429 responses.

use std::time::Duration;

use hookhub::tools::receive::ReceiverSettings;
use serde_json::json;

use crate::support::client::merged;
use crate::support::hub::TestHub;
use crate::support::receiver::{TestReceiver, sorted};

#[tokio::test]
async fn attempts_per_second_stay_within_the_owners_rate_limit() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"rate_limit_per_s": 20}))).await;
    let ids = hub.publish_many("n", 32).await;
    let arrived = receiver.take(32).await;
    let (first, last) = (arrived[0].at, arrived[31].at);
    // Two attempts may start at once; thirty more are 50 ms apart.
    assert!(last.since(first) >= Duration::from_millis(1_400), "{:?}", last.since(first));
    assert_eq!(sorted(arrived.into_iter().map(|delivery| delivery.id).collect()), ids);
}

#[tokio::test]
async fn a_receiver_that_answers_429_gets_fewer_attempts_at_once() {
    let hub = TestHub::start().await;
    let mut answers = vec![429; 15];
    answers.push(200);
    let settings =
        ReceiverSettings { answers, delay: Duration::from_millis(100), ..TestReceiver::settings() };
    let mut receiver = TestReceiver::with(settings).await;
    hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 64).await;
    // The first sixteen attempts start together. After that the AIMD window limits the number that start together.
    let arrived = receiver.take(15 + 64).await;
    let together = |at: usize| {
        let near = |other: &&hookhub::tools::receive::Delivery| {
            other.at.since(arrived[at].at) < Duration::from_millis(50)
        };
        arrived[at..].iter().take_while(near).count()
    };
    assert!(together(0) > 8, "{}", together(0));
    assert!(
        (16..40).all(|at| together(at) <= 12),
        "{:?}",
        (16..40).map(together).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_invalid_rate_limit_is_refused_by_name() {
    let hub = TestHub::start().await;
    for bad in [json!(0), json!(10_001), json!("7")] {
        let definition = json!({"event_types": ["n"], "callback_url": "https://example.com/", "rate_limit_per_s": bad});
        hub.post("/v1/subscriptions", &definition).await.expect_invalid("/rate_limit_per_s");
    }
}
