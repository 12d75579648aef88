//! Credentials for receivers: static ones, and OAuth tokens that are fetched, cached and renewed. None is ever shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{array_at, merged, string_at};
use crate::support::hub::{TestHub, every};
use crate::support::misbehaving_receiver::{Behaviour, MisbehavingReceiver};
use crate::support::receiver::{LONG_DELAY, TestReceiver};
use crate::support::scripted_server::{Reply, ScriptedServer};
use crate::support::waits::{wait_for_attempts, wait_for_deliveries, wait_for_delivery};

const PATH: &str = "/v1/subscriptions";

async fn once() -> TestHub {
    TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await
}

/// Client credentials for a token endpoint.
fn client(token_url: &str) -> Value {
    json!({
        "type": "oauth2_client_credentials", "token_url": token_url, "client_id": "hub",
        "client_secret": "planted-secret", "scope": "hooks.write"
    })
}

/// A token response.
fn token(token: &str, expires_in: u32) -> Reply {
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in});
    Reply::Json("200 OK", body.to_string())
}

/// A token endpoint that issues `token-0`, `token-1`, …
async fn endpoint(expires_in: u32) -> ScriptedServer {
    ScriptedServer::start(move |_, before| token(&format!("token-{before}"), expires_in)).await
}

/// The first attempt of an event.
async fn attempt(hub: &TestHub, subscription: &str, event: &str) -> Value {
    wait_for_attempts(hub, subscription, event, 1).await.remove(0)
}

#[tokio::test]
async fn receiver_credentials_are_sent_as_configured() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    for (auth, sent) in [
        (
            json!({"type": "basic", "username": "Aladdin", "password": "open sesame"}),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned(),
        ),
        (
            json!({"type": "basic", "username": "j\u{f6}rg", "password": ""}),
            format!("Basic {}", STANDARD.encode("j\u{f6}rg:")),
        ),
        (
            json!({"type": "bearer", "token": "1|a.b-c_d~e+f/g="}),
            "Bearer 1|a.b-c_d~e+f/g=".to_owned(),
        ),
    ] {
        let id = hub.subscribe(&merged(receiver.subscription_to("a"), json!({"auth": auth}))).await;
        hub.publish("a", json!(1)).await;
        assert_eq!(receiver.next().await.header("authorization"), Some(&*sent));
        hub.delete(&format!("{PATH}/{id}")).await;
    }
}

#[tokio::test]
async fn receiver_credentials_are_never_shown_and_stay_until_replaced() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let auth = json!({"type": "basic", "username": "u", "password": "planted-secret"});
    let created = hub
        .post(PATH, &merged(receiver.subscription_to("a"), json!({"auth": auth})))
        .await
        .expect(201);
    let masked = json!({"type": "basic", "username": "u", "password": "***"});
    assert_eq!(created["auth"], masked);
    let path = format!("{PATH}/{}", string_at(&created, "/id"));
    let patched = hub.send(Method::PATCH, &path, &json!({"description": "x"})).await.expect(200);
    assert_eq!(patched["auth"], masked);
    hub.publish("a", json!(1)).await;
    let sent = format!("Basic {}", STANDARD.encode("u:planted-secret"));
    assert_eq!(receiver.next().await.header("authorization"), Some(&*sent));

    // The masked value cannot be sent back.
    hub.send(Method::PATCH, &path, &json!({"auth": masked})).await.expect_invalid("/auth/password");
    let other = client("https://id.example/token");
    let changed = hub.send(Method::PATCH, &path, &json!({"auth": other})).await.expect(200);
    let shown = json!({
        "type": "oauth2_client_credentials", "token_url": "https://id.example/token", "client_id": "hub",
        "client_secret": "***", "scope": "hooks.write", "audience": null
    });
    assert_eq!(changed["auth"], shown);
    for response in [
        hub.get(&path).await.body,
        hub.get(PATH).await.body,
        hub.get("/v1/events?types=hookhub.subscription.*").await.body,
    ] {
        assert!(response.contains("***") && !response.contains("planted"), "{response}");
    }
    let gone = hub.send(Method::PATCH, &path, &json!({"auth": null})).await.expect(200);
    assert_eq!(gone["auth"], Value::Null);
    hub.publish("a", json!(2)).await;
    assert_eq!(receiver.next().await.header("authorization"), None);
}

#[tokio::test]
async fn invalid_receiver_credentials_are_refused_with_the_field() {
    let hub = TestHub::start().await;
    let definition = json!({"event_types": ["a"], "callback_url": "https://example.com/"});
    for (auth, pointer) in [
        (json!("Basic x"), "/auth"),
        (json!({}), "/auth/type"),
        (json!({"type": "digest", "username": "u"}), "/auth/type"),
        (json!({"type": "basic", "username": "u"}), "/auth/password"),
        (json!({"type": "basic", "password": "p"}), "/auth/username"),
        (json!({"type": "basic", "username": "u:v", "password": "p"}), "/auth/username"),
        (json!({"type": "basic", "username": "u", "password": "p\r\n"}), "/auth/password"),
        (json!({"type": "basic", "username": "u", "password": "p", "token": "t"}), "/auth/token"),
        (json!({"type": "bearer"}), "/auth/token"),
        (json!({"type": "bearer", "token": ""}), "/auth/token"),
        (json!({"type": "bearer", "token": "a b"}), "/auth/token"),
        (json!({"type": "bearer", "token": "t\r\nx: y"}), "/auth/token"),
        (json!({"type": "bearer", "token": "***"}), "/auth/token"),
        (json!({"type": "bearer", "token": "t".repeat(5_000)}), "/auth/token"),
        (json!({"type": "oauth2_client_credentials", "client_id": "c"}), "/auth/token_url"),
        (client("id.example"), "/auth/token_url"),
        (client("http://10.0.0.1/token"), "/auth/token_url"),
        (client("http://169.254.169.254/"), "/auth/token_url"),
        (client("https://id.example:22/"), "/auth/token_url"),
        (merged(client("https://id.example/"), json!({"scope": "a  b"})), "/auth/scope"),
        (merged(client("https://id.example/"), json!({"client_id": "\u{e9}"})), "/auth/client_id"),
        (merged(client("https://id.example/"), json!({"grant": "x"})), "/auth/grant"),
    ] {
        hub.post(PATH, &merged(definition.clone(), json!({"auth": auth})))
            .await
            .expect_invalid(pointer);
    }
    let both = json!({
        "auth": {"type": "bearer", "token": "t"}, "headers": {"Authorization": "Basic x"}
    });
    hub.post(PATH, &merged(definition.clone(), both)).await.expect_invalid("/auth");
    let id =
        hub.subscribe(&merged(definition, json!({"headers": {"authorization": "Basic x"}}))).await;
    let auth = json!({"auth": {"type": "bearer", "token": "t"}});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &auth).await.expect_invalid("/auth");
}

#[tokio::test]
async fn one_oauth_token_serves_all_deliveries_with_the_same_credentials() {
    let (hub, endpoint) = (TestHub::start().await, endpoint(3_600).await);
    let mut receiver = TestReceiver::start().await;
    let auth = json!({"auth": client(&endpoint.url())});
    // Two subscriptions with the same credentials, and one with others.
    for _ in 0..2 {
        hub.subscribe(&merged(receiver.subscription_to("a"), auth.clone())).await;
    }
    hub.publish_many("a", 30).await;
    for delivery in receiver.take(60).await {
        assert_eq!(delivery.header("authorization"), Some("Bearer token-0"));
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1);
    let expected = format!("Basic {}", STANDARD.encode("hub:planted-secret"));
    assert_eq!(requests[0].header("authorization"), Some(expected));
    assert_eq!(requests[0].body, "grant_type=client_credentials&scope=hooks.write");
    assert!(requests[0].head.starts_with("POST / HTTP/1.1\r\n"), "{}", requests[0].head);

    let mut other = TestReceiver::start().await;
    let auth = merged(client(&endpoint.url()), json!({"audience": "https://api.example"}));
    hub.subscribe(&merged(other.subscription_to("b"), json!({"auth": auth}))).await;
    hub.publish("b", json!(1)).await;
    assert_eq!(other.next().await.header("authorization"), Some("Bearer token-1"));
    let form = &endpoint.requests()[1].body;
    assert!(form.ends_with("&audience=https%3A%2F%2Fapi.example"), "{form}");
}

#[tokio::test]
async fn an_expired_oauth_token_is_fetched_again() {
    let (hub, endpoint) = (TestHub::start().await, endpoint(0).await);
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("a"), json!({"auth": client(&endpoint.url())})))
        .await;
    for round in 0..3 {
        hub.publish("a", json!(round)).await;
        let sent = format!("Bearer token-{round}");
        assert_eq!(receiver.next().await.header("authorization"), Some(&*sent));
    }
}

#[tokio::test]
async fn an_oauth_token_rejected_by_the_receiver_is_replaced_within_the_attempt() {
    let (hub, endpoint) = (once().await, endpoint(3_600).await);
    let valid: Arc<AtomicUsize> = Arc::default();
    let known = Arc::clone(&valid);
    let receiver = ScriptedServer::start(move |request, _| {
        let good = format!("Bearer token-{}", known.load(Ordering::Relaxed));
        let status =
            if request.header("authorization") == Some(good) { "200 OK" } else { "401 No" };
        Reply::Json(status, "{}".to_owned())
    })
    .await;
    let definition = json!({
        "event_types": ["a"], "callback_url": receiver.url(), "auth": client(&endpoint.url())
    });
    let id = hub.subscribe(&definition).await;
    let first = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &id, &first, "delivered").await;

    valid.store(1, Ordering::Relaxed);
    hub.publish_many("a", 20).await;
    wait_for_deliveries(&hub, &id, "delivered", 21).await;
    let attempts = hub.list_all(&format!("/v1/attempts?subscription={id}")).await;
    assert_eq!(attempts.len(), 21, "each event was delivered at its first attempt");
    assert_eq!(endpoint.requests().len(), 2, "one token was enough for all");

    // A receiver that rejects every token gets two requests, and the attempt fails.
    valid.store(99, Ordering::Relaxed);
    let before = receiver.requests().len();
    let refused = hub.publish("a", json!(3)).await;
    assert_eq!(attempt(&hub, &id, &refused).await["status_code"], 401);
    assert_eq!(receiver.requests().len(), before + 2);
    assert_eq!(endpoint.requests().len(), 3);
}

#[tokio::test]
async fn a_failing_token_endpoint_is_recorded_in_the_attempt_and_nothing_is_sent() {
    let mut receiver = TestReceiver::start().await;
    let misbehaving = MisbehavingReceiver::start(Behaviour::EndlessBody("200 OK")).await;
    let refusing = ScriptedServer::start(|_, _| {
        let body = json!({"error": "invalid_client", "error_description": "planted"});
        Reply::Json("401 Unauthorized", body.to_string())
    })
    .await;
    let silly =
        ScriptedServer::start(|_, _| Reply::Json("200 OK", "{\"token\": \"planted\"}".to_owned()))
            .await;
    let redirecting = MisbehavingReceiver::start(Behaviour::Redirect(refusing.url())).await;
    let hub = once().await;
    for (url, class, detail) in [
        (refusing.url(), "protocol", "token endpoint: answered 401: invalid_client"),
        (silly.url(), "protocol", "token endpoint: answered without an access_token"),
        (misbehaving.url(), "protocol", "token endpoint: answered without an access_token"),
        (redirecting.url(), "protocol", "token endpoint: answered 307"),
        (
            "http://no-such-host.invalid/".to_owned(),
            "dns",
            "token endpoint: the host has no address",
        ),
    ] {
        let id = hub
            .subscribe(&merged(receiver.subscription_to("a"), json!({"auth": client(&url)})))
            .await;
        let event = hub.publish("a", json!(1)).await;
        let attempt = attempt(&hub, &id, &event).await;
        assert_eq!(attempt["status_code"], Value::Null);
        assert_eq!(string_at(&attempt, "/error"), class, "{attempt}");
        let error_detail = string_at(&attempt, "/error_detail");
        assert!(
            error_detail.starts_with(detail) && !error_detail.contains("planted"),
            "{error_detail}"
        );
        hub.delete(&format!("{PATH}/{id}")).await;
    }
    assert!(receiver.drain().is_empty());
    assert_eq!(refusing.requests().len(), 1, "no redirect was followed");
}

#[tokio::test]
async fn a_slow_token_endpoint_delays_an_attempt_at_most_five_seconds_beyond_its_timeout() {
    let slow = ScriptedServer::start(|_, before| match before {
        0 | 1 => Reply::Never,
        _ => token("late", 3_600),
    })
    .await;
    let mut receiver = TestReceiver::start().await;
    let hub = once().await;
    let definition =
        merged(receiver.subscription_to("a"), json!({"auth": client(&slow.url()), "timeout_s": 1}));
    let id = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let attempt = attempt(&hub, &id, &event).await;
    assert_eq!(string_at(&attempt, "/error"), "timeout");
    assert_eq!(string_at(&attempt, "/error_detail"), "no complete answer within 1 s");

    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &json!({"timeout_s": 30})).await.expect(200);
    // All attempts that wait in the meantime share the result. After a timeout fewer of them run at once.
    hub.publish_many("a", 5).await;
    let path = format!("/v1/attempts?subscription={id}");
    let attempts = crate::support::eventually("all attempts have failed", async || {
        let attempts = hub.list_all(&path).await;
        (attempts.len() == 6).then_some(attempts)
    });
    for attempt in attempts.await.iter().take(5) {
        assert_eq!(string_at(attempt, "/error"), "timeout");
        let error_detail = string_at(attempt, "/error_detail");
        assert_eq!(error_detail, "token endpoint: no complete answer within 5 s");
        assert!(attempt["latency_ms"].as_u64().unwrap() < 9_000, "{attempt}");
    }
    assert_eq!(slow.requests().len(), 2);
    hub.publish("a", json!(2)).await;
    assert_eq!(receiver.next().await.header("authorization"), Some("Bearer late"));
}

#[tokio::test]
async fn token_endpoints_respect_the_target_rules() {
    let (hub, endpoint) = (TestHub::start().await, endpoint(3_600).await);
    let receiver = TestReceiver::start().await;
    let definition = json!({
        "event_types": ["a"], "callback_url": receiver.url(),
        "auth": client(&endpoint.url().replace("127.0.0.1", "127.0.0.2"))
    });
    let id = hub.subscribe(&definition).await;
    let hub = TestHub::start_on(&hub.stop().await, |settings| {
        settings.retry_schedule = every(LONG_DELAY);
        settings.egress.targets.deny =
            hookhub::domain::egress::target_list::TargetList::parse("127.0.0.2").ok();
    })
    .await;
    let event = hub.publish("a", json!(1)).await;
    let attempt = attempt(&hub, &id, &event).await;
    assert_eq!(string_at(&attempt, "/error"), "blocked");
    let error_detail = string_at(&attempt, "/error_detail");
    assert!(
        error_detail.starts_with("token endpoint: ")
            && error_detail.contains("HOOKHUB_DENY_TARGETS"),
        "{error_detail}"
    );
    assert_eq!(array_at(&hub.get(PATH).await.expect(200), "/data").len(), 1);
}

#[tokio::test]
async fn credentials_are_not_sent_to_another_server() {
    let hub = TestHub::start().await;
    let id = hub
        .subscribe(&json!({
            "event_types": ["a"], "callback_url": "http://127.0.0.1:9009/a",
            "headers": {"x-key": "planted"}, "auth": {"type": "bearer", "token": "planted"},
        }))
        .await;
    let path = format!("/v1/subscriptions/{id}");
    let change_to = async |change: Value| hub.send(Method::PATCH, &path, &change).await;
    let elsewhere = change_to(json!({"callback_url": "http://127.0.0.1:9010/a"})).await;
    elsewhere.expect_invalid("/headers");
    elsewhere.expect_invalid("/auth");
    change_to(json!({"callback_url": "http://127.0.0.1:9009/b"})).await.expect(200);
    let given = json!({"callback_url": "http://127.0.0.1:9010/a", "headers": null, "auth": null});
    change_to(given).await.expect(200);
}
