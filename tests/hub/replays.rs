//! Replays: a range of the log is delivered again, each delivery once, whatever happens in the meantime.

use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::waits::{wait_for_deliveries, wait_for_status};

async fn replay(hub: &Client, id: &str, wanted: Value) -> Value {
    let path = format!("/v1/subscriptions/{id}/replay");
    hub.post(&path, &merged(json!({"since": "earliest"}), wanted)).await.expect(202)
}

/// Waits until a replay has ended, and returns it.
async fn wait_for_replay(hub: &Client, id: &str, replay: &Value) -> Value {
    let path = format!("/v1/subscriptions/{id}/replays/{}", string_at(replay, "/id"));
    eventually("the replay ends", async || {
        let now = hub.get(&path).await.expect(200);
        (string_at(&now, "/status") != "running").then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_replay_delivers_exhausted_events_and_skips_delivered_ones() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[500, 200, 500, 200]).await;
    let once = json!({"retry_schedule_s": [100], "give_up_after_s": 50, "max_in_flight": 1});
    let id = hub.subscribe(&merged(receiver.subscription_to("n"), once)).await;
    let ids = hub.publish_many("n", 10).await;
    receiver.take(10).await;
    wait_for_deliveries(&hub, &id, "exhausted", 2).await;
    wait_for_deliveries(&hub, &id, "delivered", 8).await;
    wait_for_deliveries(&hub, &id, "undelivered", 2).await;

    let requested = replay(&hub, &id, json!({})).await;
    assert_eq!((&requested["only"], &requested["count"]), (&json!("undelivered"), &json!(2)));
    let again = receiver.take(2).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
    let arrived = sorted(again.into_iter().map(|delivery| delivery.id).collect());
    assert_eq!(arrived, [ids[0].clone(), ids[2].clone()]);
    let finished = wait_for_replay(&hub, &id, &requested).await;
    assert_eq!((&finished["status"], &finished["replayed"]), (&json!("completed"), &json!(2)));
    wait_for_deliveries(&hub, &id, "delivered", 10).await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn a_replay_of_all_delivers_the_whole_range_again() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 300).await;
    assert_eq!(sorted(receiver.next_ids(300).await), ids);
    wait_for_deliveries(&hub, &id, "delivered", 300).await;
    let stretch = json!({"only": "all", "since": ids[20], "until": ids[269]});
    let requested = replay(&hub, &id, stretch).await;
    assert_eq!(requested["count"], 250);
    assert_eq!(sorted(receiver.next_ids(250).await), ids[20..270]);
    wait_for_replay(&hub, &id, &requested).await;
    let live = hub.publish("n", json!("live")).await;
    assert_eq!(receiver.next().await.id, live, "no other event arrived");
    let listed = hub.get(&format!("/v1/subscriptions/{id}/replays")).await.expect(200);
    assert_eq!(array_at(&listed, "/data").len(), 1);
}

#[tokio::test]
async fn a_dry_run_of_a_replay_counts_and_delivers_nothing() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 30).await;
    receiver.take(30).await;
    wait_for_deliveries(&hub, &id, "delivered", 30).await;
    for (only, count) in [("all", 30), ("undelivered", 0)] {
        let wanted = json!({"since": "earliest", "only": only, "dry_run": true});
        let found = hub.post(&format!("/v1/subscriptions/{id}/replay"), &wanted).await.expect(200);
        assert_eq!((&found["count"], &found["dry_run"]), (&json!(count), &json!(true)));
    }
    hub.publish("n", json!("live")).await;
    receiver.next().await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn two_concurrent_replays_deliver_an_exhausted_event_once() {
    let hub = TestHub::start().await;
    let mut answers = vec![500; 60];
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let once = json!({"retry_schedule_s": [100], "give_up_after_s": 50});
    let id = hub.subscribe(&merged(receiver.subscription_to("n"), once)).await;
    for _ in 0..4 {
        // Fewer failures in a row than make the subscription failing.
        hub.publish_many("n", 15).await;
        receiver.take(15).await;
        hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
        hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    }
    wait_for_deliveries(&hub, &id, "exhausted", 60).await;
    let (first, second) = tokio::join!(replay(&hub, &id, json!({})), replay(&hub, &id, json!({})));
    receiver.take(60).await;
    let replayed = wait_for_replay(&hub, &id, &first).await["replayed"].as_u64().unwrap()
        + wait_for_replay(&hub, &id, &second).await["replayed"].as_u64().unwrap();
    assert_eq!(replayed, 60);
    wait_for_deliveries(&hub, &id, "delivered", 60).await;
    assert!(receiver.drain().is_empty(), "each event once");
}

#[tokio::test]
async fn a_replay_excludes_deliveries_that_are_still_pending() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 20).await;
    receiver.take(20).await;
    wait_for_deliveries(&hub, &id, "delivered", 20).await;
    hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
    hub.publish_many("n", 15).await;
    let requested = replay(&hub, &id, json!({"only": "all"})).await;
    assert_eq!(requested["count"], 20);
    hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    let finished = wait_for_replay(&hub, &id, &requested).await;
    assert_eq!(finished["replayed"], 20);
    receiver.take(35).await;
    wait_for_deliveries(&hub, &id, "delivered", 35).await;
    assert!(receiver.drain().is_empty(), "fifteen events for the first time, twenty again");
}

#[tokio::test]
async fn a_replay_reaches_a_failing_receiver_and_makes_it_active() {
    let hub = TestHub::start().await;
    let mut answers = vec![500; 20];
    answers.push(200);
    let mut receiver = TestReceiver::responding(&answers).await;
    let once = json!({"retry_schedule_s": [100], "give_up_after_s": 50, "max_in_flight": 1});
    let id = hub.subscribe(&merged(receiver.subscription_to("n"), once)).await;
    let ids = hub.publish_many("n", 20).await;
    receiver.take(20).await;
    wait_for_deliveries(&hub, &id, "exhausted", 20).await;
    wait_for_status(&hub, &id, "failing").await;
    let requested = replay(&hub, &id, json!({})).await;
    assert_eq!(sorted(receiver.next_ids(20).await), ids);
    wait_for_replay(&hub, &id, &requested).await;
    wait_for_status(&hub, &id, "active").await;
}

#[tokio::test]
async fn a_replay_keeps_the_order_of_each_order_key() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&merged(receiver.subscription_to("n"), json!({"order_by": "/k"}))).await;
    let mut keys = std::collections::HashMap::new();
    for n in 0..120 {
        keys.insert(hub.publish("n", json!({"k": n % 3})).await, n % 3);
    }
    receiver.take(120).await;
    wait_for_deliveries(&hub, &id, "delivered", 120).await;
    replay(&hub, &id, json!({"only": "all"})).await;
    let again = receiver.next_ids(120).await;
    for key in 0..3 {
        assert!(again.iter().filter(|id| keys.get(*id) == Some(&key)).is_sorted(), "key {key}");
    }
}

#[tokio::test]
async fn a_replay_survives_a_restart_and_makes_each_delivery_once() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub
        .subscribe(&merged(receiver.subscription_to("n"), json!({"rate_limit_per_s": 400})))
        .await;
    let ids = hub.publish_many("n", 400).await;
    assert_eq!(sorted(receiver.next_ids(400).await), ids);
    wait_for_deliveries(&hub, &id, "delivered", 400).await;
    let requested = replay(&hub, &id, json!({"only": "all"})).await;
    let mut again = receiver.next_ids(100).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    again.extend(receiver.next_ids(300).await);
    let finished = wait_for_replay(&hub, &id, &requested).await;
    assert_eq!((&finished["status"], &finished["replayed"]), (&json!("completed"), &json!(400)));
    assert_eq!(sorted(again), ids);
    let live = hub.publish("n", json!("live")).await;
    assert_eq!(receiver.next().await.id, live);
}

#[tokio::test]
async fn a_cancelled_replay_stops() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 400).await;
    receiver.take(400).await;
    wait_for_deliveries(&hub, &id, "delivered", 400).await;
    let slowly = json!({"rate_limit_per_s": 20});
    hub.send(reqwest::Method::PATCH, &format!("/v1/subscriptions/{id}"), &slowly).await.expect(200);
    let requested = replay(&hub, &id, json!({"only": "all"})).await;
    receiver.take(5).await;
    let path = format!("/v1/subscriptions/{id}/replays/{}/cancel", string_at(&requested, "/id"));
    let cancelled = hub.post(&path, &json!({})).await.expect(202);
    assert_eq!(cancelled["status"], "cancelled");
    let finished = wait_for_replay(&hub, &id, &requested).await;
    let replayed = finished["replayed"].as_u64().unwrap();
    assert!(replayed <= 200, "{replayed}: what waits for its try, and no more");
    hub.post(&path, &json!({})).await.expect(200);
}

#[tokio::test]
async fn a_repeated_replay_request_creates_one_replay() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 5).await;
    receiver.take(5).await;
    wait_for_deliveries(&hub, &id, "delivered", 5).await;
    let path = format!("/v1/subscriptions/{id}/replay");
    let wanted = json!({"since": "earliest", "only": "all"});
    let first = hub.post_idempotent(&path, "once", &wanted).await.expect(202);
    let repeat = hub.post_idempotent(&path, "once", &wanted).await;
    assert_eq!(repeat.header("idempotent-replayed"), Some("true"));
    assert_eq!(repeat.expect(202)["id"], first["id"]);
    receiver.take(5).await;
    wait_for_replay(&hub, &id, &first).await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn an_invalid_replay_is_refused_by_name() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let path = format!("/v1/subscriptions/{id}/replay");
    hub.post(&path, &json!({})).await.expect_invalid("/since");
    hub.post(&path, &json!({"since": "yesterday"})).await.expect_invalid("/since");
    hub.post(&path, &json!({"since": "earliest", "until": "never"})).await.expect_invalid("/until");
    hub.post(&path, &json!({"since": "earliest", "only": "some"})).await.expect_invalid("/only");
    let pulled = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let path = format!("/v1/subscriptions/{pulled}/replay");
    hub.post(&path, &json!({"since": "earliest"})).await.expect_problem(409, "conflict");
    let path = format!("/v1/subscriptions/{id}/replays/rpl_0000000000000");
    hub.get(&path).await.expect_problem(404, "not_found");
}
