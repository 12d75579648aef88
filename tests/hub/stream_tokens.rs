//! Stream tokens for browsers, CORS, and connection metrics.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, send_request, string_at};
use crate::support::follower::End;
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::sse::EventSource;
use crate::support::websocket::Socket;

const PATH: &str = "/v1/stream-tokens";

async fn token(hub: &Client, types: Value) -> String {
    string_at(&hub.post(PATH, &json!({"types": types})).await.expect(201), "/token")
}

#[tokio::test]
async fn a_stream_token_only_reads_its_event_types() {
    let hub = TestHub::start().await;
    let order = hub.publish("order.paid", json!(1)).await;
    hub.publish("invoice.paid", json!(1)).await;
    let token = token(&hub, json!(["order.*"])).await;
    let page = hub.with_key(None);
    let list = page.get(&format!("/v1/events?access_token={token}")).await.expect(200);
    assert_eq!(array_at(&list, "/data").len(), 1);
    assert_eq!(string_at(&list, "/data/0/id"), order);
    let narrower = format!("/v1/events?types=order.paid&access_token={token}");
    assert_eq!(array_at(&page.get(&narrower).await.expect(200), "/data").len(), 1);
    for types in ["invoice.paid", "*", "order.paid,invoice.paid", "order"] {
        for path in ["events", "stream", "ws"] {
            let path = format!("/v1/{path}?types={types}&access_token={token}");
            page.get(&path).await.expect_problem(403, "forbidden");
        }
    }
    let event = json!({"type": "order.paid", "data": 1});
    page.post(&format!("/v1/events?access_token={token}"), &event)
        .await
        .expect_problem(401, "unauthorized");
    page.get(&format!("/v1/subscriptions?access_token={token}"))
        .await
        .expect_problem(401, "unauthorized");
    page.with_key(Some(&token)).get("/v1/events").await.expect_problem(401, "unauthorized");
}

#[tokio::test]
async fn the_link_to_the_next_page_does_not_contain_the_token() {
    let hub = TestHub::start().await;
    hub.publish_many("a", 3).await;
    let token = token(&hub, json!(["a"])).await;
    let page = hub.with_key(None).get(&format!("/v1/events?limit=1&access_token={token}")).await;
    let link = page.header("link").expect("a next page");
    assert!(link.contains("after=") && !link.contains("token"), "{link}");
}

#[tokio::test]
async fn a_stream_token_is_bound_to_its_tenant_and_lifetime() {
    let hub = TestHub::start().await;
    hub.acting_for("acme").publish("a", json!(1)).await;
    hub.publish("a", json!(2)).await;
    let created =
        hub.acting_for("acme").post(PATH, &json!({"types": ["a"], "ttl_s": 1})).await.expect(201);
    let path =
        format!("/v1/events?wait=30&after=now&access_token={}", string_at(&created, "/token"));
    let page = hub.with_key(None);
    page.acting_for("other").get(&path).await.expect_problem(403, "forbidden");
    // The wait ends together with the token.
    let waited = page.get(&path).await;
    assert!(waited.status == 200 || waited.status == 401, "{}", waited.body);
    let again = page.get(&path).await.expect_problem(401, "unauthorized");
    assert!(string_at(&again, "/detail").contains("expired"), "{again}");
}

#[tokio::test]
async fn an_invalid_stream_token_opens_nothing() {
    let hub = TestHub::start().await;
    let page = hub.with_key(None);
    let good = token(&hub, json!(["a"])).await;
    let forged = format!("{good}A");
    for bad in ["", "x", "hhst_", "hhst_e30.e30", &forged, crate::support::hub::ADMIN_KEY] {
        let path = format!("/v1/stream?access_token={bad}");
        page.get(&path).await.expect_problem(401, "unauthorized");
    }
    hub.get(&format!("/v1/events?access_token={good}")).await.expect_problem(400, "invalid_header");
}

#[tokio::test]
async fn an_invalid_stream_token_request_is_refused_with_the_field() {
    let hub = TestHub::start().await;
    for (body, pointer) in [
        (json!({}), "/types"),
        (json!({"types": []}), "/types"),
        (json!({"types": ["a b"]}), "/types/0"),
        (json!({"types": ["a"], "ttl_s": 0}), "/ttl_s"),
        (json!({"types": ["a"], "ttl_s": 3601}), "/ttl_s"),
        (json!({"types": ["a"], "ttl": 5}), "/ttl"),
        (json!({"types": (0..20).map(|n| "x".repeat(200 + n)).collect::<Vec<_>>()}), "/types"),
    ] {
        hub.post(PATH, &body).await.expect_invalid(pointer);
    }
}

#[tokio::test]
async fn stream_tokens_survive_a_restart() {
    let hub = TestHub::start().await;
    let token = token(&hub, json!(["a"])).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    hub.with_key(None).get(&format!("/v1/events?access_token={token}")).await.expect(200);
}

#[tokio::test]
async fn only_pages_of_configured_origins_pass_cors() {
    let ours = "https://app.example.com";
    let hub = TestHub::start_with(|settings| settings.cors_origins = vec![ours.to_owned()]).await;
    for (origin, allowed) in [(ours, Some(ours)), ("https://evil.example", None)] {
        let request = hub.request(Method::GET, "/v1/events").header("origin", origin);
        let response = send_request(request).await;
        assert_eq!(response.header("access-control-allow-origin"), allowed);
        let refused =
            send_request(hub.request(Method::GET, "/v1/typo").header("origin", origin)).await;
        assert_eq!(
            refused.header("access-control-allow-origin"),
            allowed,
            "pages can read problems too"
        );
    }
    let preflight = hub
        .with_key(None)
        .request(Method::OPTIONS, "/v1/events")
        .header("origin", ours)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let preflight = send_request(preflight).await;
    assert_eq!(preflight.status, 200, "{}", preflight.body);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(ours));
}

#[tokio::test]
async fn metrics_count_connections_and_sent_events() {
    let hub = TestHub::start().await;
    hub.publish("a", json!(1)).await;
    hub.get("/v1/events?wait=1").await.expect(200);
    let metrics = hub.with_key(None).get("/metrics").await;
    assert_eq!(metrics.status, 200);
    for line in [
        "hookhub_connections{transport=\"sse\"} 0",
        "hookhub_events_sent_total{transport=\"long_poll\"} 1",
        "hookhub_connections_refused_total 0",
    ] {
        assert!(metrics.body.lines().any(|one| one == line), "{line}: {}", metrics.body);
    }
}

/// Builds the request for a stream from `after`, with a token that is valid for `ttl_s` seconds.
async fn stream(hub: &Client, path: &str, ttl_s: u32, after: &str) -> RequestBuilder {
    let created = hub.post(PATH, &json!({"types": ["a"], "ttl_s": ttl_s})).await.expect(201);
    let token = string_at(&created, "/token");
    let path = format!("/v1/{path}?access_token={token}&after={after}");
    hub.with_key(None).request(Method::GET, &path)
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_resumes_with_the_next_token_without_loss() {
    let hub = TestHub::start().await;
    let first = hub.publish("a", json!(1)).await;
    let mut short = EventSource::open(stream(&hub, "stream", 1, "earliest").await).await.unwrap();
    assert_eq!(in_time("an event", short.next()).await.unwrap().id, first);
    assert_eq!(in_time("its end", short.next()).await.unwrap_err(), End::Clean);
    let missed = hub.publish("a", json!(2)).await;
    let mut next = EventSource::open(stream(&hub, "stream", 60, &first).await).await.unwrap();
    assert_eq!(in_time("an event", next.next()).await.unwrap().id, missed);
}

#[tokio::test]
async fn a_websocket_closes_with_its_token_and_resumes_with_the_next_token_without_loss() {
    let hub = TestHub::start().await;
    let first = hub.publish("a", json!(1)).await;
    let mut short = Socket::open(stream(&hub, "ws", 1, "earliest").await).await.unwrap();
    assert_eq!(string_at(&short.receive().await, "/id"), first);
    assert_eq!(short.wait_for_end().await, 1008);
    let missed = hub.publish("a", json!(2)).await;
    let mut next = Socket::open(stream(&hub, "ws", 60, &first).await).await.unwrap();
    assert_eq!(string_at(&next.receive().await, "/id"), missed);
}

#[tokio::test]
async fn a_repeated_token_request_returns_the_token_only_to_the_same_key() {
    let hub = TestHub::start().await;
    let mut answers = Vec::new();
    for name in ["one", "other"] {
        let created = hub.post("/v1/keys", &json!({"name": name})).await.expect(201);
        let client = hub.with_key(Some(&string_at(&created, "/key")));
        answers
            .push(client.post_idempotent("/v1/stream-tokens", "k", &json!({"types": ["a"]})).await);
    }
    answers[0].expect(201);
    answers[1].expect_problem(422, "idempotency_key_reused");
}
