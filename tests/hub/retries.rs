//! Failed deliveries: retries by the schedule, order, 410, and the end of retrying.

use std::time::Duration;

use hookhub::domain::time::UnixMillis;
use hookhub::tools::receive::ReceiverSettings;
use serde_json::json;

use crate::support::client::{merged, string_at};
use crate::support::eventually;
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{LONG_DELAY, TestReceiver, sorted};
use crate::support::waits::{
    wait_for_attempts, wait_for_deliveries, wait_for_delivery, wait_for_status,
};

fn time(value: &serde_json::Value, pointer: &str) -> UnixMillis {
    UnixMillis::parse(&string_at(value, pointer)).expect("a time")
}

#[tokio::test]
async fn each_attempt_sends_the_same_bytes_under_the_same_id_with_its_own_number() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[500, 503, 404, 302, 200]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let event = hub.publish("a", json!({"n": 1.50})).await;
    let deliveries = receiver.take(5).await;
    for (delivery, number) in deliveries.iter().zip(1..) {
        assert_eq!((delivery.attempt, &delivery.id), (number, &event));
        assert_eq!(delivery.body, deliveries[0].body);
    }
    wait_for_delivery(&hub, &subscription, &event, "delivered").await;
    let attempts = wait_for_attempts(&hub, &subscription, &event, 5).await;
    let statuses: Vec<_> =
        attempts.iter().map(|attempt| attempt["status_code"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [500, 503, 404, 302, 200]);
    assert!(receiver.drain().is_empty(), "a delivered event is not sent again");
}

#[tokio::test]
async fn retry_delays_follow_the_subscriptions_schedule_and_repeat_its_last_step() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut receiver = TestReceiver::responding(&[500, 500, 200]).await;
    let definition = merged(receiver.subscription_to("a"), json!({"retry_schedule_s": [1]}));
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let deliveries = receiver.take(3).await;
    for pair in deliveries.windows(2) {
        let wait = pair[1].at.since(pair[0].at);
        assert!(wait >= Duration::from_millis(780), "a second less a fifth, not {wait:?}");
    }
    wait_for_delivery(&hub, &subscription, &event, "delivered").await;
}

#[tokio::test]
async fn a_waiting_delivery_shows_its_next_attempt_time() {
    let hub =
        TestHub::start_with(|settings| settings.retry_schedule = every(Duration::from_secs(1_000)))
            .await;
    let mut receiver = TestReceiver::responding(&[500]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    let at = receiver.next().await.at;
    let delivery = wait_for_delivery(&hub, &subscription, &event, "retrying").await;
    let wait = time(&delivery, "/next_attempt_at").since(at).as_secs();
    assert!((790..=1_210).contains(&wait), "1,000 s give or take a fifth, not {wait} s");
}

#[tokio::test]
async fn retry_after_is_honoured_for_429_and_503() {
    let hub = TestHub::start().await;
    for status in [429, 503] {
        let answers = ReceiverSettings {
            answers: vec![status],
            retry_after_s: Some(3_000),
            ..TestReceiver::settings()
        };
        let mut receiver = TestReceiver::with(answers).await;
        let subscription = hub.subscribe(&receiver.subscription_to(&format!("a.{status}"))).await;
        let event = hub.publish(&format!("a.{status}"), json!(1)).await;
        let at = receiver.next().await.at;
        let delivery = wait_for_delivery(&hub, &subscription, &event, "retrying").await;
        let wait = time(&delivery, "/next_attempt_at").since(at).as_secs();
        assert!((2_998..=3_610).contains(&wait), "{status}: {wait} s");
        let attempts = wait_for_attempts(&hub, &subscription, &event, 1).await;
        assert_eq!(
            attempts[0].pointer("/response_headers/retry-after"),
            Some(&json!("3000")),
            "{}",
            attempts[0]
        );
    }
}

#[tokio::test]
async fn a_retry_after_within_the_deadline_delays_the_next_attempt() {
    let hub = TestHub::start().await;
    let answers = ReceiverSettings {
        answers: vec![429, 200],
        retry_after_s: Some(1),
        ..TestReceiver::settings()
    };
    let mut receiver = TestReceiver::with(answers).await;
    hub.subscribe(&receiver.subscription_to("a")).await;
    hub.publish("a", json!(1)).await;
    let both = receiver.take(2).await;
    let wait = both[1].at.since(both[0].at);
    assert!(wait >= Duration::from_millis(990), "{wait:?}");
}

#[tokio::test]
async fn a_delivery_is_exhausted_after_its_deadline() {
    let hub = TestHub::start_with(|settings| {
        settings.retry_schedule = every(Duration::from_millis(200));
        settings.retry_schedule.give_up_after = Duration::from_secs(2);
    })
    .await;
    let mut receiver = TestReceiver::responding(&[500]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &subscription, &event, "exhausted").await;
    let attempts = receiver.drain().len();
    assert!(
        (2..=13).contains(&attempts),
        "{attempts} attempts in 2 s, every 200 ms plus or minus 40"
    );
    assert_eq!(wait_for_attempts(&hub, &subscription, &event, attempts).await.len(), attempts);
    assert_eq!(hub.subscription(&subscription).await["status"], "active");
}

#[tokio::test]
async fn a_subscription_can_give_up_earlier_than_the_server_default() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::responding(&[500]).await;
    let definition = merged(
        receiver.subscription_to("a"),
        json!({"retry_schedule_s": [100], "give_up_after_s": 50}),
    );
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let delivery = wait_for_delivery(&hub, &subscription, &event, "exhausted").await;
    assert_eq!(delivery.get("next_attempt_at").and_then(|at| at.as_str()), None);
}

#[tokio::test]
async fn an_ordered_subscription_keeps_its_order_across_failures() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[200, 500, 500, 200, 500, 200, 200]).await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"ordered": true}))).await;
    let ids = hub.publish_many("n", 4).await;
    let arrived = receiver.next_ids(7).await;
    let (a, b, c, d) = (&ids[0], &ids[1], &ids[2], &ids[3]);
    assert_eq!(arrived.iter().collect::<Vec<_>>(), [a, b, b, b, c, c, d]);
}

#[tokio::test]
async fn an_ordered_subscription_continues_after_an_exhausted_event() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let definition = merged(
        receiver.subscription_to("n"),
        json!({"ordered": true, "retry_schedule_s": [100], "give_up_after_s": 50}),
    );
    let subscription = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 3).await;
    assert_eq!(receiver.next_ids(3).await, ids);
    wait_for_delivery(&hub, &subscription, &ids[0], "exhausted").await;
    wait_for_delivery(&hub, &subscription, &ids[2], "delivered").await;
}

#[tokio::test]
async fn failures_do_not_delay_later_events() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut receiver = TestReceiver::responding(&[500, 500, 500, 200]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 50).await;
    assert_eq!(sorted(receiver.next_ids(50).await), ids);
    wait_for_deliveries(&hub, &subscription, "delivered", 47).await;
    wait_for_deliveries(&hub, &subscription, "retrying", 3).await;
}

#[tokio::test]
async fn events_of_a_dead_receiver_stay_pending_without_an_attempt_each() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut dead = TestReceiver::responding(&[500]).await;
    let mut healthy = TestReceiver::start().await;
    let subscription = hub.subscribe(&dead.subscription_to("n")).await;
    hub.subscribe(&healthy.subscription_to("n")).await;
    let ids = hub.publish_many("n", 500).await;
    assert_eq!(sorted(healthy.next_ids(500).await), ids);
    wait_for_status(&hub, &subscription, "failing").await;
    let attempted = dead.take(20).await.len() + dead.drain().len();
    assert!(
        attempted <= 20 + 16,
        "{attempted}: after a run of failures no more first attempts begin"
    );
    wait_for_deliveries(&hub, &subscription, "retrying", attempted).await;
    wait_for_deliveries(&hub, &subscription, "pending", 500 - attempted).await;
}

#[tokio::test]
async fn a_receiver_that_recovers_gets_every_event() {
    let hub = TestHub::start().await;
    let mut answers = vec![500; 150];
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 400).await;
    wait_for_deliveries(&hub, &subscription, "delivered", 400).await;
    let mut arrived = receiver.next_ids(550).await;
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, ids);
}

#[tokio::test]
async fn a_subscription_answered_410_is_disabled_and_resume_delivers_its_parked_events() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[410, 200]).await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.subscription.disabled")).await;
    let definition = merged(receiver.subscription_to("n"), json!({"ordered": true}));
    let subscription = hub.subscribe(&definition).await;
    let first = hub.publish("n", json!(1)).await;

    let disabled = wait_for_status(&hub, &subscription, "disabled").await;
    assert!(string_at(&disabled, "/disabled_reason").contains("410"), "{disabled}");
    let notice = watcher.next().await;
    assert!(String::from_utf8_lossy(&notice.body).contains(&subscription));
    let second = hub.publish("n", json!(2)).await;
    wait_for_delivery(&hub, &subscription, &second, "pending").await;
    assert_eq!(receiver.drain(), std::slice::from_ref(&first));

    let resumed =
        hub.post(&format!("/v1/subscriptions/{subscription}/resume"), &json!({})).await.expect(200);
    assert_eq!((&resumed["status"], &resumed["disabled_reason"]), (&json!("active"), &json!(null)));
    assert_eq!(receiver.next_ids(2).await, [first, second]);
}

#[tokio::test]
async fn retries_survive_a_restart() {
    let hub =
        TestHub::start_with(|settings| settings.retry_schedule = every(Duration::from_secs(12)))
            .await;
    let mut receiver = TestReceiver::responding(&[500, 500, 500, 200]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 3).await;
    assert_eq!(sorted(receiver.next_ids(3).await), ids);
    wait_for_deliveries(&hub, &subscription, "retrying", 3).await;
    let database = hub.stop().await;

    let hub = TestHub::start_on(&database, |_| ()).await;
    let again = receiver.take(3).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
    eventually("all are delivered", async || {
        let path = format!("/v1/subscriptions/{subscription}/deliveries?status=delivered");
        (hub.list_all(&path).await.len() == 3).then_some(())
    })
    .await;
}
