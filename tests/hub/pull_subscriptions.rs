//! Pull subscriptions: the hub stores the cursor, clients move it, and events that are not acked are served again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};

fn path(id: &str, rest: &str) -> String {
    format!("/v1/subscriptions/{id}/{rest}")
}

async fn pull(hub: &Client, id: &str) -> Vec<String> {
    let page = hub.get(&path(id, "events?limit=250")).await.expect(200);
    array_at(&page, "/data").iter().map(|event| string_at(event, "/id")).collect()
}

async fn ack(hub: &Client, id: &str, cursor: &str) -> String {
    let response = hub.post(&path(id, "ack"), &json!({"cursor": cursor})).await.expect(200);
    string_at(&response, "/cursor")
}

#[tokio::test]
async fn a_pull_subscription_resumes_after_the_last_ack() {
    let hub = TestHub::start().await;
    hub.publish_many("n", 3).await;
    let created = hub.post("/v1/subscriptions", &json!({"event_types": ["n"]})).await.expect(201);
    assert_eq!(created["callback_url"], Value::Null);
    let id = string_at(&created, "/id");
    let ids = hub.publish_many("n", 5).await;
    hub.publish_many("other", 5).await;
    assert_eq!(pull(&hub, &id).await, ids);
    assert_eq!(pull(&hub, &id).await, ids, "events that were not acked are returned again");
    assert_eq!(ack(&hub, &id, &ids[2]).await, ids[2]);
    assert_eq!(pull(&hub, &id).await, ids[3..]);
    assert_eq!(ack(&hub, &id, &ids[0]).await, ids[2], "the cursor never moves back");
    assert_eq!(hub.subscription(&id).await["cursor"], json!(ids[2]));
}

#[tokio::test]
async fn the_cursor_of_a_pull_page_moves_past_events_that_do_not_match() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let others = hub.publish_many("other", 20).await;
    let page = hub.get(&path(&id, "events")).await.expect(200);
    assert_eq!(page["next_cursor"], json!(others[19]));
    ack(&hub, &id, &others[19]).await;
    let n = hub.publish("n", json!(1)).await;
    assert_eq!(pull(&hub, &id).await, [n]);
}

#[tokio::test]
async fn a_pull_subscription_reads_history_from_its_start_position() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 4).await;
    let all = hub.subscribe(&json!({"event_types": ["n"], "from": "earliest"})).await;
    let some = hub.subscribe(&json!({"event_types": ["n"], "from": ids[2]})).await;
    assert_eq!(pull(&hub, &all).await, ids);
    assert_eq!(pull(&hub, &some).await, ids[2..]);
}

#[tokio::test]
async fn seek_moves_the_cursor_to_any_position() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let ids = hub.publish_many("n", 4).await;
    ack(&hub, &id, &ids[3]).await;
    for (to, left) in [
        (json!({"cursor": ids[1]}), &ids[2..]),
        (json!({"cursor": "now"}), &[]),
        (json!({"cursor": "earliest"}), &ids[..]),
        (json!({"time": "2100-01-01T00:00:00Z"}), &[]),
        (json!({"time": "2000-01-01T00:00:00Z"}), &ids[..]),
    ] {
        hub.post(&path(&id, "seek"), &to).await.expect(200);
        assert_eq!(pull(&hub, &id).await, left, "{to}");
    }
    let future = "evt_7ZZZZZZZZZZZZ";
    hub.post(&path(&id, "seek"), &json!({"cursor": future})).await.expect_invalid("/cursor");
    hub.post(&path(&id, "seek"), &json!({"cursor": "soon"})).await.expect_invalid("/cursor");
    hub.post(&path(&id, "seek"), &json!({"time": "soon"})).await.expect_invalid("/time");
    hub.post(&path(&id, "seek"), &json!({})).await.expect_invalid("");
    hub.post(&path(&id, "ack"), &json!({"cursor": future})).await.expect_invalid("/cursor");
    hub.post(&path(&id, "ack"), &json!({"cursor": "x"})).await.expect_invalid("/cursor");
    hub.post(&path(&id, "ack"), &json!({})).await.expect_invalid("/cursor");
    assert_eq!(pull(&hub, &id).await, ids, "a refused seek does not move the cursor");
}

#[tokio::test]
async fn each_of_several_consumers_gets_every_event_not_yet_acked() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let ids = hub.publish_many("n", 6).await;
    assert_eq!(pull(&hub, &id).await, ids);
    ack(&hub, &id, &ids[1]).await;
    assert_eq!(pull(&hub, &id).await, ids[2..]);
    ack(&hub, &id, &ids[4]).await;
    ack(&hub, &id, &ids[2]).await;
    assert_eq!(
        pull(&hub, &id).await,
        ids[5..],
        "the ack of the slower client does not move the cursor back"
    );
}

#[tokio::test]
async fn the_pull_cursor_survives_a_restart() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let ids = hub.publish_many("n", 4).await;
    ack(&hub, &id, &ids[1]).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    assert_eq!(pull(&hub, &id).await, ids[2..]);
}

#[tokio::test]
async fn a_pattern_change_of_a_pull_subscription_applies_from_its_own_position() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["a"]})).await;
    let a = hub.publish("a", json!(1)).await;
    hub.publish("b", json!(1)).await;
    let change = json!({"event_types": ["b"]});
    hub.send(Method::PATCH, &format!("/v1/subscriptions/{id}"), &change).await.expect(200);
    hub.publish("a", json!(2)).await;
    let b = hub.publish("b", json!(2)).await;
    assert_eq!(pull(&hub, &id).await, [a, b]);
}

#[tokio::test]
async fn a_pull_after_push_returns_only_events_that_the_callback_did_not_accept() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[200, 500, 200, 500]).await;
    let wanted = merged(
        receiver.subscription_to("n"),
        json!({"max_in_flight": 1, "retry_schedule_s": [1000]}),
    );
    let id = hub.subscribe(&wanted).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(hub.publish("n", json!(n)).await);
        receiver.next().await;
    }
    wait_for_delivery(&hub, &id, &ids[2], "delivered").await;
    wait_for_delivery(&hub, &id, &ids[3], "retrying").await;
    let subscription = format!("/v1/subscriptions/{id}");
    let pulled = json!({"callback_url": null});
    hub.send(Method::PATCH, &subscription, &pulled).await.expect(200);
    ids.push(hub.publish("n", json!(4)).await);
    assert_eq!(pull(&hub, &id).await, [ids[1].clone(), ids[3].clone(), ids[4].clone()]);
    ack(&hub, &id, &ids[1]).await;

    // With a callback again: acked events are not delivered, the others wait for their next attempt, and new events
    // arrive.
    let mut again = TestReceiver::start().await;
    let back = json!({"callback_url": again.url(), "secret": crate::support::receiver::SECRET});
    hub.send(Method::PATCH, &subscription, &back).await.expect(200);
    assert_eq!(again.next().await.id, ids[4]);
    hub.post(&format!("/v1/deliveries/{id}/{}/retry", ids[3]), &json!({})).await.expect(202);
    assert_eq!(again.next().await.id, ids[3]);
    let last = hub.publish("n", json!(5)).await;
    assert_eq!(again.next().await.id, last);
    assert!(again.drain().is_empty());
    hub.get(&path(&id, "events")).await.expect_problem(409, "conflict");
}

#[tokio::test]
async fn a_pulled_subscription_with_a_new_callback_is_delivered_from_its_cursor_also_after_a_restart()
 {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let ids = hub.publish_many("n", 10).await;
    ack(&hub, &id, &ids[3]).await;
    let mut receiver = TestReceiver::start().await;
    let wanted = merged(receiver.subscription_to("n"), json!({"ordered": true}));
    hub.send(Method::PUT, &format!("/v1/subscriptions/{id}"), &wanted).await.expect(200);
    assert_eq!(receiver.next_ids(6).await, ids[4..]);
    wait_for_deliveries(&hub, &id, "delivered", 6).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let last = hub.publish("n", json!(1)).await;
    assert_eq!(receiver.next().await.id, last);
}

#[tokio::test]
async fn a_paused_pull_subscription_keeps_its_position() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let ids = hub.publish_many("n", 2).await;
    hub.post(&path(&id, "pause"), &json!({})).await.expect(200);
    for rest in ["events", "stream"] {
        hub.get(&path(&id, rest)).await.expect_problem(409, "conflict");
    }
    hub.post(&path(&id, "resume"), &json!({})).await.expect(200);
    assert_eq!(pull(&hub, &id).await, ids);
}

#[tokio::test]
async fn pulling_a_missing_or_foreign_subscription_gets_404() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["n"]})).await;
    let other = hub.acting_for("other");
    for rest in ["events", "stream", "ws"] {
        other.get(&path(&id, rest)).await.expect_problem(404, "not_found");
    }
    other
        .post(&path(&id, "ack"), &json!({"cursor": "evt_0000000000000"}))
        .await
        .expect_problem(404, "not_found");
    hub.delete(&format!("/v1/subscriptions/{id}")).await;
    hub.get(&path(&id, "events")).await.expect_problem(404, "not_found");
}
