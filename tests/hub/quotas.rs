//! Quotas: a tenant over its quota is refused with a `Retry-After`, and other tenants are not affected.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, Response, array_at, string_at};
use crate::support::eventually;
use crate::support::follower::{End, Follower, Transport};
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::waits::wait_for_connections;
use crate::support::websocket::Socket;

const EVENTS: &str = "/v1/events";
const RATE: [&str; 3] = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];

/// Sets a tenant's quotas and returns a client that acts for it.
async fn tenant(hub: &Client, name: &str, quotas: Value) -> Client {
    allow(hub, name, quotas).await;
    hub.acting_for(name)
}

async fn allow(hub: &Client, name: &str, quotas: Value) {
    let path = format!("/v1/tenants/{name}");
    let response = hub.send(Method::PUT, &path, &json!({"quotas": quotas})).await;
    assert!([200, 201].contains(&response.status), "{}", response.body);
}

/// Waits until a node enforces a tenant's quota.
async fn wait_for_quota(hub: &Client, name: &str, quota: &str, value: u32) {
    let value = json!(value);
    let path = format!("/v1/tenants/{name}");
    eventually("the quota applies", async || {
        let tenant = hub.get(&path).await.expect(200);
        (tenant.pointer(&format!("/in_force/{quota}")) == Some(&value)).then_some(())
    })
    .await;
}

fn batch(count: usize) -> Value {
    (0..count).map(|n| json!({"type": "n", "data": n})).collect()
}

fn one() -> Value {
    json!({"type": "n", "data": 1})
}

/// The values of the `RateLimit` headers of a response.
fn rate(response: &Response) -> Option<[u64; 3]> {
    let values = RATE.map(|name| response.header(name).map(|value| value.parse().expect(value)));
    let [Some(limit), Some(remaining), Some(reset)] = values else {
        assert_eq!(values, [None; 3]);
        return None;
    };
    Some([limit, remaining, reset])
}

/// Checks that a quota refused the request; returns the `Retry-After` in seconds.
#[track_caller]
fn refused(response: &Response, code: &str) -> u64 {
    let problem = response.expect_problem(429, code);
    let retry_after = response.header("retry-after").and_then(|seconds| seconds.parse().ok());
    let seconds: u64 = retry_after.expect("a Retry-After");
    assert_eq!(problem.pointer("/retry_after_s"), Some(&json!(seconds)));
    assert!(seconds > 0);
    let [_, _, reset] = rate(response).expect("the remaining rate");
    assert_eq!(reset, seconds);
    seconds
}

#[tokio::test]
async fn a_tenant_over_its_rate_gets_retry_after_and_other_tenants_are_not_affected() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"events_per_s": 1})).await;
    let key = acme.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let with_key = hub.with_key(Some(&string_at(&key, "/key")));
    let taken = acme.post(EVENTS, &batch(1_000)).await;
    taken.expect(202);
    assert_eq!(
        rate(&taken),
        Some([1, 0, 1_000]),
        "the whole batch at once, then nothing for 1,000 s"
    );

    for client in [&acme, &with_key] {
        let seconds = refused(&client.post(EVENTS, &one()).await, "rate_limited");
        assert!((900..=1_000).contains(&seconds), "{seconds}");
        refused(&client.post(EVENTS, &batch(3)).await, "rate_limited");
    }
    assert_eq!(acme.list_all(EVENTS).await.len(), 1_000, "refused events are not stored");
    for other in
        [hub.acting_for("other"), tenant(&hub, "limited", json!({"events_per_s": 5})).await]
    {
        other.post(EVENTS, &batch(5)).await.expect(202);
    }
    let free = hub.post(EVENTS, &one()).await;
    free.expect(202);
    assert_eq!(rate(&free), None, "without a limit there are no rate fields");
    let metrics = hub.get("/metrics").await.body;
    assert!(
        metrics.contains("hookhub_quota_refusals_total{quota=\"events_per_s\"} 4\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_publish_after_retry_after_is_accepted() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"events_per_s": 1})).await;
    acme.post(EVENTS, &batch(6)).await.expect(202);
    let seconds = refused(&acme.post(EVENTS, &one()).await, "rate_limited");
    assert!(seconds <= 6);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    acme.post(EVENTS, &one()).await.expect(202);
}

#[tokio::test]
async fn the_publish_quota_counts_the_valid_events_of_a_batch() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"events_per_s": 1_000})).await;
    let bad = json!({"type": "n"});
    let mixed = json!([one(), bad, one(), bad, one()]);
    let response = acme.post(EVENTS, &mixed).await;
    response.expect(202);
    assert_eq!(rate(&response), Some([1_000, 997, 1]));
    let refusal = acme.post(EVENTS, &json!([bad, bad])).await;
    assert_eq!(array_at(&refusal.expect(202), "/data").len(), 2);
}

#[tokio::test]
async fn a_rate_limited_request_leaves_its_idempotency_key_free() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"events_per_s": 1})).await;
    acme.post(EVENTS, &batch(1_000)).await.expect(202);
    refused(&acme.post_idempotent(EVENTS, "a-key", &one()).await, "rate_limited");
    allow(&hub, "acme", json!({"events_per_s": 100})).await;
    let first = acme.post_idempotent(EVENTS, "a-key", &one()).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = acme.post_idempotent(EVENTS, "a-key", &one()).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.expect(202), again.expect(202));
    assert!(rate(&again).is_some());
}

#[tokio::test]
async fn websocket_publishes_and_test_events_count_against_the_quota() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"events_per_s": 1})).await;
    let request = acme.request(Method::GET, "/v1/ws?types=never");
    let mut socket = in_time("a connection", Socket::open(request)).await.expect("a WebSocket");
    let subscription = acme.subscribe(&json!({"event_types": ["a"]})).await;
    let test = format!("/v1/subscriptions/{subscription}/test");
    let tested = acme.post(&test, &json!({})).await;
    tested.expect(202);
    assert_eq!(rate(&tested), Some([1, 0, 1]));

    allow(&hub, "acme", json!({"events_per_s": 2})).await;
    socket.send(&json!({"publish": one()})).await;
    assert!(socket.receive().await["published"]["id"].is_string());
    acme.post(EVENTS, &json!([one()])).await.expect(202);
    allow(&hub, "acme", json!({"events_per_s": 3})).await;
    acme.post(EVENTS, &batch(1_000)).await.expect(202);
    socket.send(&json!({"publish": one()})).await;
    let reply = socket.receive().await;
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["status"]),
        (&json!("rate_limited"), &json!(429))
    );
    assert!(
        reply["error"]["retry_after_s"].as_u64().is_some_and(|seconds| seconds > 300),
        "{reply}"
    );
    refused(&acme.post(&test, &json!({})).await, "rate_limited");
}

#[tokio::test]
async fn the_subscription_quota_holds_under_concurrency_on_two_nodes_and_deletion_frees_it() {
    let hub = TestHub::start().await;
    let other = TestHub::start_on(&hub.database, |_| ()).await;
    let acme = tenant(&hub, "acme", json!({"subscriptions": 5})).await;
    wait_for_quota(&other, "acme", "subscriptions", 5).await;
    let there = other.acting_for("acme");
    let wanted = json!({"event_types": ["a"]});
    let create = |n: usize| {
        let (client, wanted) = (if n.is_multiple_of(2) { &acme } else { &there }, &wanted);
        async move { client.post("/v1/subscriptions", wanted).await }
    };
    let answers = join_all((0..20).map(create)).await;
    let created: Vec<_> = answers.iter().filter(|response| response.status == 201).collect();
    assert_eq!(created.len(), 5);
    for response in answers.iter().filter(|response| response.status != 201) {
        refused(response, "quota_exceeded");
        assert_eq!(rate(response).unwrap()[..2], [5, 0]);
    }
    assert_eq!(acme.list_all("/v1/subscriptions").await.len(), 5);
    hub.acting_for("other").subscribe(&wanted).await;

    let path = format!("/v1/subscriptions/{}", string_at(&created[0].expect(201), "/id"));
    there
        .send(Method::PATCH, &path, &json!({"description": "full, but this is none more"}))
        .await
        .expect(200);
    there.delete(&path).await.expect(204);
    let (one, two) = tokio::join!(create(0), create(1));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 429]);
    let metrics = [&hub, &other].map(|hub| async move { hub.get("/metrics").await.body });
    let refusals = join_all(metrics).await.into_iter().map(|text| {
        let line = text.lines().find_map(|line| {
            line.strip_prefix("hookhub_quota_refusals_total{quota=\"subscriptions\"} ")
        });
        line.expect("a count").parse::<u64>().unwrap()
    });
    assert_eq!(refusals.sum::<u64>(), 16);
}

#[tokio::test]
async fn a_repeated_creation_returns_the_existing_subscription_although_the_quota_is_full() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"subscriptions": 1})).await;
    let wanted = json!({"event_types": ["a"]});
    let first = acme.post_idempotent("/v1/subscriptions", "a-key", &wanted).await.expect(201);
    refused(&acme.post_idempotent("/v1/subscriptions", "b-key", &wanted).await, "quota_exceeded");
    let again = acme.post_idempotent("/v1/subscriptions", "a-key", &wanted).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201)["id"], first["id"]);
    let other = json!({"event_types": ["b"]});
    acme.post_idempotent("/v1/subscriptions", "a-key", &other)
        .await
        .expect_problem(422, "idempotency_key_reused");
    allow(&hub, "acme", json!({"subscriptions": 2})).await;
    acme.post_idempotent("/v1/subscriptions", "b-key", &wanted).await.expect(201);
}

#[tokio::test]
async fn a_refused_subscription_leaves_no_entry_in_the_log() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"subscriptions": 0})).await;
    let head = "SELECT last_value FROM log_position";
    let before = hub.database.query_number(head).await;
    refused(
        &acme.post("/v1/subscriptions", &json!({"event_types": ["a"]})).await,
        "quota_exceeded",
    );
    assert_eq!(hub.database.query_number(head).await, before);
    assert!(acme.list_all("/v1/events").await.is_empty());
}

#[tokio::test]
async fn existing_subscriptions_stay_when_the_quota_is_lowered() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"subscriptions": 3, "streams": 2})).await;
    for _ in 0..3 {
        acme.subscribe(&json!({"event_types": ["a"]})).await;
    }
    let mut stream = Follower::from_earliest(&acme, Transport::Sse).await;
    allow(&hub, "acme", json!({"subscriptions": 1, "streams": 0})).await;
    assert_eq!(acme.list_all("/v1/subscriptions").await.len(), 3);
    let id = acme.publish("a", json!(1)).await;
    assert_eq!(stream.next().await.id, id);
    refused(
        &acme.post("/v1/subscriptions", &json!({"event_types": ["a"]})).await,
        "quota_exceeded",
    );
    refused(&acme.get("/v1/stream").await, "too_many_connections");
}

#[tokio::test]
async fn open_streams_stay_within_the_tenants_quota_and_other_tenants_are_not_affected() {
    let hub = TestHub::start().await;
    let acme = tenant(&hub, "acme", json!({"streams": 2})).await;
    let key = acme.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let with_key = hub.with_key(Some(&string_at(&key, "/key")));
    let first = Follower::from_earliest(&acme, Transport::Sse).await;
    let _second = Follower::from_earliest(&with_key, Transport::WebSocket).await;
    for client in [&acme, &with_key] {
        for path in ["/v1/stream", "/v1/events?wait=60"] {
            let response = client.get(path).await;
            refused(&response, "too_many_connections");
            assert_eq!(rate(&response).unwrap()[..2], [2, 0]);
        }
        let request = client.request(Method::GET, "/v1/ws");
        assert_eq!(Socket::open(request).await.err(), Some(End::Refused(429)));
        client.get(EVENTS).await.expect(200);
    }
    let _other = Follower::from_earliest(&hub.acting_for("other"), Transport::Sse).await;
    let metrics = hub.get("/metrics").await.body;
    assert!(metrics.contains("hookhub_quota_refusals_total{quota=\"streams\"} 6\n"), "{metrics}");
    drop(first);
    wait_for_connections(&acme, 1).await;
    Follower::from_earliest(&acme, Transport::Sse).await;
}

#[tokio::test]
async fn event_size_is_limited_by_the_tenants_quota() {
    let hub = TestHub::start().await;
    let wide = tenant(&hub, "wide", json!({"event_bytes": 1_000_000})).await;
    let narrow = tenant(&hub, "narrow", json!({"event_bytes": 2_000})).await;
    let event = |bytes: usize| json!({"type": "n", "data": "x".repeat(bytes - 2)});
    wide.post(EVENTS, &event(1_000_000)).await.expect(202);
    narrow.post(EVENTS, &event(2_000)).await.expect(202);
    hub.post(EVENTS, &event(262_144)).await.expect(202);
    for (client, most) in [(&wide, 1_000_000), (&narrow, 2_000), (&*hub, 262_144)] {
        let problem =
            client.post(EVENTS, &event(most + 1)).await.expect_problem(413, "payload_too_large");
        let detail = string_at(&problem, "/detail");
        assert!(detail.contains(&most.to_string()) && detail.contains("event_bytes"), "{detail}");
    }
    let mixed = narrow.post(EVENTS, &json!([event(2_001), event(2_000)])).await.expect(202);
    assert_eq!(mixed["data"][0]["error"]["code"], "payload_too_large");
    assert!(mixed["data"][1]["id"].is_string());

    let request = wide.request(Method::GET, "/v1/ws?types=never");
    let mut socket = in_time("a connection", Socket::open(request)).await.expect("a WebSocket");
    socket.send(&json!({"publish": event(1_000_000)})).await;
    assert!(socket.receive().await["published"]["id"].is_string());
    socket.send(&json!({"publish": event(1_000_001)})).await;
    assert_eq!(socket.receive().await["error"]["code"], "payload_too_large");
}

#[tokio::test]
async fn a_quota_of_zero_refuses_everything() {
    let hub = TestHub::start().await;
    let none = json!({"events_per_s": 0, "subscriptions": 0, "streams": 0});
    let acme = tenant(&hub, "acme", none).await;
    refused(&acme.post(EVENTS, &one()).await, "quota_exceeded");
    refused(
        &acme.post("/v1/subscriptions", &json!({"event_types": ["a"]})).await,
        "quota_exceeded",
    );
    refused(&acme.get("/v1/stream").await, "too_many_connections");
    assert!(acme.list_all(EVENTS).await.is_empty());
}

#[tokio::test]
async fn default_quotas_apply_to_every_tenant_without_its_own() {
    let hub = TestHub::start_with(|settings| {
        settings.quotas.events_per_s = Some(1);
        settings.quotas.subscriptions = 1;
        settings.quotas.streams = Some(1);
    })
    .await;
    let wanted = json!({"event_types": ["a"]});
    let more = json!({"events_per_s": 1_000_000, "subscriptions": 2, "streams": 2});
    let more = tenant(&hub, "more", more).await;
    for client in [hub.acting_for("a"), hub.acting_for("b"), tenant(&hub, "c", json!({})).await] {
        client.post(EVENTS, &batch(1_000)).await.expect(202);
        refused(&client.post(EVENTS, &one()).await, "rate_limited");
        client.subscribe(&wanted).await;
        refused(&client.post("/v1/subscriptions", &wanted).await, "quota_exceeded");
        let _stream = Follower::from_earliest(&client, Transport::Sse).await;
        refused(&client.get("/v1/stream").await, "too_many_connections");
    }
    for _ in 0..2 {
        more.post(EVENTS, &batch(1_000)).await.expect(202);
        more.subscribe(&wanted).await;
    }
}

#[tokio::test]
async fn a_quota_change_applies_on_other_nodes_within_seconds_and_after_a_restart() {
    let one_node = TestHub::start().await;
    let other = TestHub::start_on(&one_node.database, |_| ()).await;
    let there = other.acting_for("acme");
    there.post(EVENTS, &one()).await.expect(202);
    for (quotas, expected) in [
        (json!({"events_per_s": 10}), Some(10)),
        (json!({"events_per_s": 20}), Some(20)),
        (json!({}), None),
        (json!({"events_per_s": 30}), Some(30)),
    ] {
        allow(&one_node, "acme", quotas).await;
        let here = one_node.acting_for("acme").post(EVENTS, &one()).await;
        assert_eq!(
            rate(&here).map(|[limit, ..]| limit),
            expected,
            "it applies at once on the node that changed it"
        );
        eventually("the quota applies on the other node", async || {
            let response = there.post(EVENTS, &one()).await;
            let limit = rate(&response).map(|[limit, ..]| limit);
            (limit == expected).then_some(())
        })
        .await;
    }
    one_node.delete("/v1/tenants/acme").await.expect(204);
    eventually("the other node drops the quota", async || {
        rate(&there.post(EVENTS, &one()).await).is_none().then_some(())
    })
    .await;

    allow(&one_node, "acme", json!({"events_per_s": 0})).await;
    let database = one_node.stop().await;
    let again = TestHub::start_on(&database, |_| ()).await;
    refused(&again.acting_for("acme").post(EVENTS, &one()).await, "quota_exceeded");
}
