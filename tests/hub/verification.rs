//! Verification of receivers: every method, parked events until then, and only the receiver's own confirmation counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hookhub::config::Settings;
use hookhub::domain::egress::policy::AllowedTargets;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::client::{Client, array_at, merged, send_request, string_at};
use crate::support::eventually;
use crate::support::hub::{TestHub, every};
use crate::support::misbehaving_receiver::{Behaviour, MisbehavingReceiver};
use crate::support::process::{Environment, HubProcess};
use crate::support::receiver::{LONG_DELAY, SECRET, TestReceiver, sorted};
use crate::support::verifying_receiver::{
    ReceivedRequest, VerifyingReceiver, confirmation, http_response,
};
use crate::support::waits::{wait_for_deliveries, wait_for_delivery, wait_for_status};

const PATH: &str = "/v1/subscriptions";
const METHODS: [&str; 3] = ["x_hook_secret", "challenge", "cloudevents"];

/// A hub with a name, so that it can use every method.
async fn hub() -> TestHub {
    TestHub::start_with(named).await
}

/// The same hub with a retry delay that no test reaches.
async fn hub_without_retries() -> TestHub {
    TestHub::start_with(|settings| {
        named(settings);
        settings.retry_schedule = every(LONG_DELAY);
    })
    .await
}

fn named(settings: &mut Settings) {
    settings.public_url = Some("https://hub.example".parse().expect("a URL"));
}

fn verified_by(url: &str, method: &str) -> Value {
    json!({"event_types": ["n"], "callback_url": url, "handshake": method, "secret": SECRET})
}

/// Waits until the hub has made this many verification attempts, and returns the subscription's `verification`.
async fn wait_for_verifications(hub: &Client, id: &str, times: u64) -> Value {
    eventually("the handshakes are attempted", async || {
        let subscription = hub.subscription(id).await;
        assert_eq!(string_at(&subscription, "/status"), "unverified");
        let verification = subscription.pointer("/verification")?;
        let attempts = verification.pointer("/attempts").and_then(Value::as_u64);
        (attempts >= Some(times)).then(|| verification.clone())
    })
    .await
}

/// A confirmation from a receiver, which has no API key.
async fn confirm(hub: &Client, id: &str, secret: Option<&str>) -> u16 {
    let request = hub.with_key(None).request(Method::POST, &format!("{PATH}/{id}/verification"));
    let request = match secret {
        Some(secret) => request.header("x-hook-secret", secret),
        None => request,
    };
    send_request(request).await.status
}

async fn patch(hub: &Client, id: &str, change: Value) -> Value {
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect(200)
}

async fn post(hub: &Client, id: &str, action: &str, status: u16) -> Value {
    hub.post(&format!("{PATH}/{id}/{action}"), &json!({})).await.expect(status)
}

#[tokio::test]
async fn each_verification_method_activates_the_subscription_and_starts_delivery() {
    let hub = hub().await;
    for method in METHODS {
        let mut receiver = VerifyingReceiver::confirming().await;
        let created = hub.post(PATH, &verified_by(&receiver.url(), method)).await.expect(201);
        assert_eq!(
            (&created["status"], &created["handshake"]),
            (&json!("unverified"), &json!(method))
        );
        assert_eq!(created["verification"]["verified_at"], Value::Null);
        let id = string_at(&created, "/id");
        receiver.next_verification().await;
        let verified = wait_for_status(&hub, &id, "active").await;
        assert!(verified["verification"]["verified_at"].is_string(), "{verified}");
        assert_eq!(verified["verification"].get("attempts"), None, "the verification has ended");
        let event = hub.publish("n", json!(1)).await;
        assert_eq!(receiver.next_ids(1).await, [event]);
        assert!(receiver.drain().is_empty(), "the receiver got one request");
        hub.delete(&format!("{PATH}/{id}")).await;
    }
}

#[tokio::test]
async fn events_published_before_verification_arrive_after_it_in_order_without_loss() {
    let hub = hub_without_retries().await;
    for method in METHODS {
        let (mut receiver, may_confirm) = VerifyingReceiver::confirming_when_set().await;
        let mut other = TestReceiver::start().await;
        let ordered = merged(verified_by(&receiver.url(), method), json!({"ordered": true}));
        let id = hub.subscribe(&ordered).await;
        let other_id = hub.subscribe(&other.subscription_to("n")).await;
        receiver.next_verification().await;
        let ids = hub.publish_many("n", 100).await;
        other.take(100).await;
        wait_for_deliveries(&hub, &id, "pending", 100).await;
        assert!(receiver.drain().is_empty());

        may_confirm.store(true, Ordering::Relaxed);
        post(&hub, &id, "verify", 202).await;
        assert_eq!(receiver.next_ids(100).await, ids, "{method}");
        let last = hub.publish("n", json!("live")).await;
        assert_eq!(receiver.next_ids(1).await, [last]);
        for id in [id, other_id] {
            hub.delete(&format!("{PATH}/{id}")).await;
        }
    }
}

#[tokio::test]
async fn a_receiver_that_answers_200_to_everything_is_not_verified() {
    let hub = hub().await;
    for method in METHODS {
        let mut receiver =
            VerifyingReceiver::responding(|_| http_response("200 OK", &[], "OK")).await;
        let id = hub.subscribe(&verified_by(&receiver.url(), method)).await;
        let event = hub.publish("n", json!(1)).await;
        let verification = wait_for_verifications(&hub, &id, 3).await;
        let error = string_at(&verification, "/last_error");
        assert!(error.starts_with("the receiver answered 200"), "{error}");
        assert!(
            verification["next_attempt_at"].is_string()
                && verification["last_attempt_at"].is_string()
        );
        wait_for_delivery(&hub, &id, &event, "pending").await;
        assert!(receiver.drain().iter().all(|request| request.event_id().is_none()));
    }
}

#[tokio::test]
async fn a_receiver_that_returns_a_wrong_challenge_is_not_verified() {
    let wrong = |request: &ReceivedRequest| match request.method.as_str() {
        "GET" => {
            http_response("200 OK", &[], &format!("{}x", request.parameter("challenge").unwrap()))
        }
        "OPTIONS" => http_response("200 OK", &[("WebHook-Allowed-Origin", "other.example")], ""),
        _ => http_response(
            "200 OK",
            &[("X-Hook-Secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            "",
        ),
    };
    let hub = hub().await;
    for method in METHODS {
        let mut receiver = VerifyingReceiver::responding(wrong).await;
        let id = hub.subscribe(&verified_by(&receiver.url(), method)).await;
        hub.publish("n", json!(1)).await;
        let error = string_at(&wait_for_verifications(&hub, &id, 2).await, "/last_error");
        assert!(error.contains(" not ") || error.contains("neither"), "{method}: {error}");
        assert!(!error.contains("MfKQ") && !error.contains("C2FV"), "{error}");
        assert!(receiver.drain().iter().all(|request| request.event_id().is_none()));
    }
}

#[tokio::test]
async fn a_challenge_counts_only_with_a_2xx_status_and_an_allowed_origin_with_any_status() {
    let hub = hub().await;
    for (method, status) in
        [("x_hook_secret", "unverified"), ("challenge", "unverified"), ("cloudevents", "active")]
    {
        let receiver = VerifyingReceiver::responding(|request| {
            confirmation(request).replacen("200 OK", "405 Not Allowed", 1)
        })
        .await;
        let id = hub.subscribe(&verified_by(&receiver.url(), method)).await;
        if status == "unverified" {
            let error = string_at(&wait_for_verifications(&hub, &id, 2).await, "/last_error");
            assert_eq!(error, "the receiver answered 405");
        }
        wait_for_status(&hub, &id, status).await;
    }
}

#[tokio::test]
async fn only_the_receiver_can_confirm_with_the_secret_it_was_sent() {
    let hub = hub_without_retries().await;
    let mut receiver = VerifyingReceiver::responding(|_| http_response("200 OK", &[], "")).await;
    let definition =
        merged(verified_by(&receiver.url(), "x_hook_secret"), json!({"headers": {"x-shop": "7"}}));
    let id = hub.subscribe(&definition).await;
    let other = hub.subscribe(&verified_by(&receiver.url(), "challenge")).await;
    let request = receiver.next_verification().await;
    assert_eq!(request.method, "POST");
    let secret = request.header("x-hook-secret").expect("a secret").to_owned();
    assert_eq!((request.header("x-shop"), request.body.as_str()), (Some("7"), "{}"));
    assert_eq!(request.header("webhook-subscription"), Some(&*id));
    let error = string_at(&wait_for_verifications(&hub, &id, 1).await, "/last_error");
    assert!(error.contains("may still confirm"), "{error}");
    let event = hub.publish("n", json!(1)).await;

    assert_eq!(confirm(&hub, &id, None).await, 401);
    for wrong in [
        "",
        "whsec_",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        SECRET,
        secret.trim_end_matches('='),
    ] {
        assert_eq!(confirm(&hub, &id, Some(wrong)).await, 403, "{wrong}");
    }
    assert_eq!(
        confirm(&hub, &other, Some(&secret)).await,
        403,
        "that subscription uses another method"
    );
    for unknown in ["sub_0000000000000", "sub_x", "%00"] {
        let status = confirm(&hub, unknown, Some(&secret)).await;
        assert!([400, 403].contains(&status), "{unknown}: {status}");
    }
    assert_eq!(hub.subscription(&id).await["status"], "unverified");

    assert_eq!(confirm(&hub, &id, Some(&secret)).await, 204);
    assert_eq!(hub.subscription(&id).await["status"], "active");
    assert_eq!(receiver.next_ids(1).await, [event]);
    assert_eq!(confirm(&hub, &id, Some(&secret)).await, 204, "a second confirmation has no effect");
}

#[tokio::test]
async fn the_challenge_is_appended_to_the_callbacks_own_query() {
    let hub = hub().await;
    for (path, own) in [
        ("/h?a=1&challenge=mine&b=%20x", "/h?a=1&challenge=mine&b=%20x&"),
        ("/h?", "/h?"),
        ("/h", "/h?"),
    ] {
        let last = |request: &ReceivedRequest| {
            request.target.rsplit('=').next().unwrap_or_default().to_owned()
        };
        let mut receiver = VerifyingReceiver::responding(move |request| {
            http_response("200 OK", &[], &last(request))
        })
        .await;
        let url = format!("{}{path}", receiver.url().trim_end_matches("/hooks"));
        let id = hub.subscribe(&verified_by(&url, "challenge")).await;
        let request = receiver.next_verification().await;
        let query = request.target.strip_prefix(own).expect(&request.target);
        let challenge = request.parameter("hub.challenge").unwrap();
        assert_eq!(
            query,
            format!("hub.mode=subscribe&hub.challenge={challenge}&challenge={challenge}")
        );
        assert_eq!(challenge.len(), 43, "256 bits");
        wait_for_status(&hub, &id, "active").await;
    }
}

#[tokio::test]
async fn a_verification_request_names_the_hub_and_each_delivery_repeats_the_name() {
    let hub = hub().await;
    let mut receiver = VerifyingReceiver::confirming().await;
    let definition =
        merged(verified_by(&receiver.url(), "cloudevents"), json!({"rate_limit_per_s": 2}));
    let id = hub.subscribe(&definition).await;
    let request = receiver.next_verification().await;
    assert_eq!(request.method, "OPTIONS");
    assert_eq!(request.header("webhook-request-origin"), Some("hub.example"));
    assert_eq!(request.header("webhook-request-rate"), Some("120"));
    let verified = wait_for_status(&hub, &id, "active").await;
    assert_eq!(
        verified["verification"]["allowed_rate_per_minute"], 120,
        "the receiver named no other rate"
    );
    hub.publish("n", json!(1)).await;
    let delivered = receiver.next().await;
    assert_eq!(delivered.header("webhook-request-origin"), Some("hub.example"));

    let mut plain = VerifyingReceiver::confirming().await;
    hub.subscribe(&json!({"event_types": ["n"], "callback_url": plain.url()})).await;
    hub.publish("n", json!(2)).await;
    assert_eq!(
        plain.next().await.header("webhook-request-origin"),
        None,
        "the receiver got no verification request"
    );
}

#[tokio::test]
async fn a_receiver_can_confirm_later_through_the_url_it_was_sent() {
    let hub = hub_without_retries().await;
    for method in [Method::GET, Method::POST] {
        let mut receiver =
            VerifyingReceiver::responding(|_| http_response("405 Not Allowed", &[], "")).await;
        let id = hub.subscribe(&verified_by(&receiver.url(), "cloudevents")).await;
        let request = receiver.next_verification().await;
        let callback = request.header("webhook-request-callback").unwrap();
        let path = callback.strip_prefix("https://hub.example").unwrap().to_owned();
        let event = hub.publish("n", json!(1)).await;
        let stranger = hub.with_key(None);

        let token = path.rsplit('=').next().unwrap();
        for wrong in ["", "AAAA", &token.to_uppercase(), &format!("{token}A")] {
            let wrong = format!("{PATH}/{id}/verification?token={wrong}");
            stranger.get(&wrong).await.expect_problem(403, "forbidden");
        }
        stranger
            .get(&format!("{PATH}/{id}/verification"))
            .await
            .expect_problem(401, "unauthorized");
        let bad_rate = stranger.request(Method::POST, &path).header("webhook-allowed-rate", "0");
        send_request(bad_rate).await.expect_problem(400, "invalid_header");
        send_request(stranger.request(Method::HEAD, &path)).await;
        assert_eq!(
            hub.subscription(&id).await["status"],
            "unverified",
            "a HEAD request does not confirm"
        );

        let confirming =
            stranger.request(method.clone(), &path).header("webhook-allowed-rate", "60");
        let status = send_request(confirming).await.status;
        assert_eq!(status, if method == Method::GET { 200 } else { 204 });
        let verified = hub.subscription(&id).await;
        assert_eq!(verified["status"], "active");
        assert_eq!(verified["verification"]["allowed_rate_per_minute"], 60);
        let delivered = receiver.next().await;
        assert_eq!(delivered.event_id(), Some(&*event));
        assert_eq!(delivered.header("webhook-request-origin"), Some("hub.example"));
        hub.delete(&format!("{PATH}/{id}")).await;
    }
}

#[tokio::test]
async fn deliveries_stay_within_the_rate_that_the_receiver_allowed() {
    let hub = hub().await;
    let mut receiver = VerifyingReceiver::responding(|_| {
        http_response(
            "200 OK",
            &[("WebHook-Allowed-Origin", "*"), ("WebHook-Allowed-Rate", "120")],
            "",
        )
    })
    .await;
    let definition =
        merged(verified_by(&receiver.url(), "cloudevents"), json!({"rate_limit_per_s": 1_000}));
    let id = hub.subscribe(&definition).await;
    wait_for_status(&hub, &id, "active").await;
    receiver.next_verification().await;
    // The clock starts before the first attempt, because a busy test may notice that one late.
    let started = std::time::Instant::now();
    let ids = hub.publish_many("n", 5).await;
    let arrived = receiver.next_ids(ids.len()).await;
    let took = started.elapsed();
    // The rate limit allows the first attempt at once; the others are half a second apart.
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert_eq!(sorted(arrived), ids);
}

#[tokio::test]
async fn verification_by_origin_needs_a_configured_hub_name() {
    let hub = TestHub::start().await;
    let receiver = VerifyingReceiver::confirming().await;
    let refusal = hub.post(PATH, &verified_by(&receiver.url(), "cloudevents")).await;
    refusal.expect_invalid("/handshake");
    assert!(refusal.body.contains("HOOKHUB_WEBHOOK_ORIGIN"), "{}", refusal.body);
    let id = hub.subscribe(&verified_by(&receiver.url(), "challenge")).await;
    let change = json!({"handshake": "cloudevents"});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect_invalid("/handshake");

    let named = TestHub::start_with(|settings| {
        settings.webhook_origin = Some("events.example".parse().unwrap());
    })
    .await;
    let mut receiver = VerifyingReceiver::confirming().await;
    named.subscribe(&verified_by(&receiver.url(), "cloudevents")).await;
    let request = receiver.next_verification().await;
    assert_eq!(request.header("webhook-request-origin"), Some("events.example"));
    assert_eq!(request.header("webhook-request-callback"), None, "the hub has no public URL");
}

#[tokio::test]
async fn a_new_callback_or_verification_method_must_be_verified_again() {
    let hub = hub_without_retries().await;
    let mut first = VerifyingReceiver::confirming().await;
    let (mut second, may_confirm) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&first.url(), "challenge")).await;
    first.next_verification().await;
    wait_for_status(&hub, &id, "active").await;
    let changed = patch(
        &hub,
        &id,
        json!({"description": "x", "callback_url": first.url(), "handshake": "challenge"}),
    )
    .await;
    assert_eq!(changed["status"], "active", "receiver and method are unchanged");

    let changed = patch(&hub, &id, json!({"callback_url": second.url()})).await;
    assert_eq!(changed["status"], "unverified");
    second.next_verification().await;
    let event = hub.publish("n", json!(1)).await;
    wait_for_delivery(&hub, &id, &event, "pending").await;
    may_confirm.store(true, Ordering::Relaxed);
    post(&hub, &id, "verify", 202).await;
    assert_eq!(second.next_ids(1).await, [event]);

    let changed = patch(&hub, &id, json!({"handshake": "x_hook_secret"})).await;
    assert_eq!(changed["status"], "unverified");
    assert!(second.next_verification().await.header("x-hook-secret").is_some());
    wait_for_status(&hub, &id, "active").await;
    let put =
        json!({"event_types": ["n"], "callback_url": first.url(), "handshake": "x_hook_secret"});
    let changed = hub.send(Method::PUT, &format!("{PATH}/{id}"), &put).await.expect(200);
    assert_eq!(changed["status"], "unverified");
    first.next_verification().await;
    assert!(second.drain().is_empty());
}

#[tokio::test]
async fn the_owner_can_turn_verification_off() {
    let hub = hub_without_retries().await;
    let (mut receiver, _) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&receiver.url(), "challenge")).await;
    receiver.next_verification().await;
    let event = hub.publish("n", json!(1)).await;
    let changed = patch(&hub, &id, json!({"handshake": null})).await;
    assert_eq!((&changed["status"], &changed["handshake"]), (&json!("active"), &Value::Null));
    assert_eq!(changed["verification"], Value::Null);
    assert_eq!(receiver.next_ids(1).await, [event]);

    let changed = patch(&hub, &id, json!({"handshake": "challenge"})).await;
    assert_eq!(changed["status"], "unverified", "and a verification can be required later");
}

#[tokio::test]
async fn pause_and_resume_do_not_bypass_verification() {
    let hub = hub_without_retries().await;
    let (mut receiver, may_confirm) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&receiver.url(), "x_hook_secret")).await;
    receiver.next_verification().await;
    let event = hub.publish("n", json!(1)).await;
    assert_eq!(post(&hub, &id, "resume", 200).await["status"], "unverified");
    assert_eq!(post(&hub, &id, "pause", 200).await["status"], "paused");
    let refusal = hub.post(&format!("{PATH}/{id}/verify"), &json!({})).await;
    refusal.expect_problem(409, "nothing_to_verify");
    assert_eq!(post(&hub, &id, "resume", 200).await["status"], "unverified");
    let request = receiver.next_verification().await;
    wait_for_delivery(&hub, &id, &event, "pending").await;

    // A receiver that confirms while its subscription is paused needs no new request.
    post(&hub, &id, "pause", 200).await;
    assert_eq!(confirm(&hub, &id, request.header("x-hook-secret")).await, 204);
    assert_eq!(hub.subscription(&id).await["status"], "paused");
    may_confirm.store(true, Ordering::Relaxed);
    assert_eq!(post(&hub, &id, "resume", 200).await["status"], "active");
    let next = receiver.next().await;
    assert_eq!(next.event_id(), Some(&*event), "{next:?}");
}

#[tokio::test]
async fn a_confirmation_of_the_former_receiver_does_not_verify_the_new_one() {
    let hub = hub_without_retries().await;
    let passes = Arc::new(Semaphore::new(0));
    let mut former =
        VerifyingReceiver::responding_with_permits(Arc::clone(&passes), confirmation).await;
    let (mut new, _) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&former.url(), "challenge")).await;
    former.next_verification().await;
    patch(&hub, &id, json!({"callback_url": new.url()})).await;
    new.next_verification().await;
    passes.add_permits(2);
    // The hub processes the confirmation of this later subscription after the former one's.
    let later = hub.subscribe(&verified_by(&former.url(), "challenge")).await;
    wait_for_status(&hub, &later, "active").await;
    let event = hub.publish("n", json!(1)).await;
    wait_for_delivery(&hub, &later, &event, "delivered").await;
    wait_for_delivery(&hub, &id, &event, "pending").await;
    assert_eq!(hub.subscription(&id).await["status"], "unverified");
}

#[tokio::test]
async fn a_pending_verification_and_its_parked_events_survive_a_restart() {
    let hub = hub_without_retries().await;
    let (mut receiver, may_confirm) = VerifyingReceiver::confirming_when_set().await;
    let mut other = TestReceiver::start().await;
    let ordered = merged(verified_by(&receiver.url(), "challenge"), json!({"ordered": true}));
    let id = hub.subscribe(&ordered).await;
    hub.subscribe(&other.subscription_to("n")).await;
    receiver.next_verification().await;
    let mut ids = hub.publish_many("n", 20).await;
    other.take(20).await;
    let database = hub.stop().await;

    may_confirm.store(true, Ordering::Relaxed);
    let hub = TestHub::start_on(&database, named).await;
    receiver.next_verification().await;
    wait_for_status(&hub, &id, "active").await;
    ids.extend(hub.publish_many("n", 5).await);
    assert_eq!(receiver.next_ids(25).await, ids);
    let database = hub.stop().await;

    let hub = TestHub::start_on(&database, named).await;
    let last = hub.publish("n", json!(1)).await;
    assert_eq!(
        receiver.next().await.event_id(),
        Some(&*last),
        "a verified receiver gets no second request"
    );
}

#[tokio::test]
async fn a_subscription_without_verification_gets_only_its_events() {
    let hub = hub().await;
    let mut plain = VerifyingReceiver::confirming().await;
    let (request, _) = VerifyingReceiver::confirming_when_set().await;
    let unasked = json!({"event_types": ["n"], "callback_url": plain.url()});
    let created = hub.post(PATH, &unasked).await.expect(201);
    assert_eq!(created["status"], "active");
    assert_eq!((&created["handshake"], &created["verification"]), (&Value::Null, &Value::Null));
    let unverified = hub.subscribe(&verified_by(&request.url(), "challenge")).await;
    let mut ids = hub.publish_many("n", 10).await;
    assert_eq!(sorted(plain.next_ids(10).await), ids);
    wait_for_verifications(&hub, &unverified, 3).await;
    ids = hub.publish_many("n", 10).await;
    let all: Vec<ReceivedRequest> = {
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(plain.next().await);
        }
        all
    };
    let arrived = all.iter().map(|request| request.event_id().expect("an event").to_owned());
    assert_eq!(sorted(arrived.collect()), ids);
    let unverified_ones = hub.list_all(&format!("{PATH}?status=unverified")).await;
    assert_eq!(unverified_ones.len(), 1);
    assert_eq!(string_at(&unverified_ones[0], "/id"), unverified);
}

#[tokio::test]
async fn verification_requests_respect_the_target_rules() {
    let hub = hub_without_retries().await;
    let (mut receiver, _) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&receiver.url(), "challenge")).await;
    receiver.next_verification().await;
    let database = hub.stop().await;
    let strict = TestHub::start_on(&database, |settings| {
        named(settings);
        settings.egress.targets.allow = AllowedTargets::default();
        settings.retry_schedule = every(Duration::from_millis(50));
    })
    .await;
    let error = string_at(&wait_for_verifications(&strict, &id, 3).await, "/last_error");
    assert!(error.starts_with("blocked: ") && error.contains("127.0.0.1"), "{error}");
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn verification_follows_no_redirects_and_times_out() {
    let hub = hub_without_retries().await;
    let mut inner = VerifyingReceiver::confirming().await;
    let redirects = MisbehavingReceiver::start(Behaviour::Redirect(inner.url())).await;
    let hangs = MisbehavingReceiver::start(Behaviour::NeverRespond).await;
    let endless = MisbehavingReceiver::start(Behaviour::EndlessBody("200 OK")).await;
    for (url, method, expected) in [
        (redirects.url(), "challenge", "the receiver answered 307"),
        (hangs.url(), "x_hook_secret", "timeout: no complete answer within 1 s"),
        (
            endless.url(),
            "challenge",
            "the receiver answered 200, but its body is not the challenge",
        ),
    ] {
        let id = hub.subscribe(&merged(verified_by(&url, method), json!({"timeout_s": 1}))).await;
        assert_eq!(string_at(&wait_for_verifications(&hub, &id, 1).await, "/last_error"), expected);
    }
    assert!(endless.sent() < 32 << 20, "{} bytes", endless.sent());
    assert!(inner.drain().is_empty());
}

#[tokio::test]
async fn hanging_receivers_delay_neither_deliveries_nor_other_verifications() {
    let hub = hub_without_retries().await;
    let hangs = MisbehavingReceiver::start(Behaviour::NeverRespond).await;
    for _ in 0..100 {
        hub.subscribe(&merged(verified_by(&hangs.url(), "challenge"), json!({"timeout_s": 30})))
            .await;
    }
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("n")).await;
    let ids = hub.publish_many("n", 100).await;
    assert_eq!(sorted(receiver.next_ids(100).await), ids);

    let other = hub.acting_for("other");
    let willing = VerifyingReceiver::confirming().await;
    let began = std::time::Instant::now();
    let id = other.subscribe(&verified_by(&willing.url(), "challenge")).await;
    wait_for_status(&other, &id, "active").await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(hangs.requests() <= 8, "{} at once of one tenant", hangs.requests());
}

#[tokio::test]
async fn a_receiver_that_answers_410_is_not_asked_again_until_its_owner_resumes() {
    let hub = hub().await;
    let mut receiver = VerifyingReceiver::responding(|_| http_response("410 Gone", &[], "")).await;
    for method in METHODS {
        let id = hub.subscribe(&verified_by(&receiver.url(), method)).await;
        receiver.next_verification().await;
        let disabled = wait_for_status(&hub, &id, "disabled").await;
        assert!(string_at(&disabled, "/disabled_reason").contains("410"), "{disabled}");
        let resumed = post(&hub, &id, "resume", 200).await;
        assert_eq!(resumed["status"], "unverified");
        receiver.next_verification().await;
        wait_for_status(&hub, &id, "disabled").await;
        assert!(receiver.drain().is_empty());
    }
}

#[tokio::test]
async fn after_the_last_scheduled_attempt_verification_runs_only_on_request() {
    let hub = TestHub::start().await;
    let (receiver, may_confirm) = VerifyingReceiver::confirming_when_set().await;
    let definition =
        merged(verified_by(&receiver.url(), "challenge"), json!({"give_up_after_s": 1}));
    let id = hub.subscribe(&definition).await;
    let last = eventually("the attempts end", async || {
        let verification = hub.subscription(&id).await["verification"].clone();
        let is_over = verification["attempts"] != 0 && verification["next_attempt_at"].is_null();
        is_over.then_some(verification)
    })
    .await;
    assert!(last["attempts"].as_u64() > Some(1), "{last}");
    may_confirm.store(true, Ordering::Relaxed);
    let verify = format!("{PATH}/{id}/verify");
    let accepted = hub.post_idempotent(&verify, "verify-1", &json!({})).await.expect(202);
    assert_eq!(accepted, json!({"subscription": id}));
    wait_for_status(&hub, &id, "active").await;
    let again = hub.post_idempotent(&verify, "verify-1", &json!({})).await;
    assert_eq!((again.header("idempotent-replayed"), again.expect(202)), (Some("true"), accepted));
    hub.post_idempotent(&verify, "verify-2", &json!({}))
        .await
        .expect_problem(409, "nothing_to_verify");
}

#[tokio::test]
async fn a_test_before_verification_and_invalid_handshake_settings_are_refused() {
    let hub = hub_without_retries().await;
    let (receiver, _) = VerifyingReceiver::confirming_when_set().await;
    let id = hub.subscribe(&verified_by(&receiver.url(), "challenge")).await;
    hub.post(&format!("{PATH}/{id}/test"), &json!({}))
        .await
        .expect_problem(409, "subscription_unverified");
    patch(&hub, &id, json!({"handshake": null})).await;
    hub.post(&format!("{PATH}/{id}/test"), &json!({})).await.expect(202);
    hub.post(&format!("{PATH}/{id}/verify"), &json!({}))
        .await
        .expect_problem(409, "nothing_to_verify");

    let pulled = json!({"event_types": ["n"], "handshake": "challenge"});
    hub.post(PATH, &pulled).await.expect_invalid("/handshake");
    patch(&hub, &id, json!({"handshake": "challenge"})).await;
    let change = json!({"callback_url": null});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect_invalid("/handshake");
    for bad in [json!("webhook"), json!(true), json!({"type": "challenge"})] {
        hub.post(PATH, &merged(pulled.clone(), json!({"handshake": bad})))
            .await
            .expect_invalid("/handshake");
    }
    let stranger = hub.acting_for("stranger");
    for action in ["verify", "test"] {
        stranger
            .post(&format!("{PATH}/{id}/{action}"), &json!({}))
            .await
            .expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn verification_is_published_as_an_event_without_secrets() {
    let hub = hub_without_retries().await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.subscription.verified")).await;
    let receiver = VerifyingReceiver::confirming().await;
    let id = hub.subscribe(&verified_by(&receiver.url(), "x_hook_secret")).await;
    let notice: Value = serde_json::from_slice(&watcher.next().await.body).unwrap();
    assert_eq!(notice["type"], "hookhub.subscription.verified");
    assert_eq!(notice.pointer("/data/subscription/id"), Some(&json!(id)));
    assert_eq!(notice.pointer("/data/subscription/status"), Some(&json!("active")));
    let listed = hub.get(PATH).await.body + &hub.get("/v1/events?types=hookhub.*").await.body;
    let key = SECRET.trim_start_matches("whsec_");
    assert!(!notice.to_string().contains(key) && !listed.contains(key), "{listed}");
    assert!(
        array_at(&hub.get("/v1/events?types=hookhub.verification.*").await.expect(200), "/data")
            .is_empty()
    );
}

#[tokio::test]
async fn a_confirmation_at_one_node_counts_on_all_nodes() {
    let one = hub_without_retries().await;
    let other = TestHub::start_on(&one.database, named).await;
    let mut receiver = VerifyingReceiver::responding(|_| http_response("200 OK", &[], "")).await;
    for n in 0..8 {
        let id = one.subscribe(&verified_by(&receiver.url(), "x_hook_secret")).await;
        let request = receiver.next_verification().await;
        let event = one.publish("n", json!(n)).await;
        let hub: &Client = if n % 2 == 0 { &one } else { &other };
        assert_eq!(confirm(hub, &id, request.header("x-hook-secret")).await, 204);
        let arrived = receiver.next_ids(1).await;
        assert_eq!(arrived, [event]);
        one.delete(&format!("{PATH}/{id}")).await;
    }
}

#[tokio::test]
async fn verification_secrets_are_not_logged() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = crate::support::database::Database::create().await;
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", database.url())
        .with("HOOKHUB_PUBLIC_URL", "https://hub.example")
        .with("HOOKHUB_LOG", "hookhub=trace");
    let hub = HubProcess::start(&environment).await;
    let mut tokens = Vec::new();
    for method in METHODS {
        let mut receiver =
            VerifyingReceiver::responding(|_| http_response("200 OK", &[], "")).await;
        let id = hub
            .client
            .subscribe(&verified_by(&format!("{}?k=planted", receiver.url()), method))
            .await;
        let request = receiver.next_verification().await;
        tokens.extend(request.parameter("challenge"));
        if let Some(url) = request.header("webhook-request-callback") {
            let path = url.trim_start_matches("https://hub.example");
            tokens.push(path.rsplit('=').next().unwrap().to_owned());
            assert_eq!(hub.client.with_key(None).get(path).await.status, 200);
        } else if method == "x_hook_secret" {
            assert_eq!(confirm(&hub.client, &id, Some("whsec_planted")).await, 403);
            let secret = request.header("x-hook-secret");
            assert_eq!(confirm(&hub.client, &id, secret).await, 204);
            tokens.extend(secret.map(|secret| secret.trim_start_matches("whsec_").to_owned()));
        }
        wait_for_status(
            &hub.client,
            &id,
            if method == "challenge" { "unverified" } else { "active" },
        )
        .await;
    }
    assert_eq!(tokens.len(), 3);
    hub.program.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, output) = hub.program.wait_for_end().await;
    assert!(output.contains("a receiver confirmed its verification request"), "{output}");
    for secret in
        [&tokens[0], &tokens[1], &tokens[2], "planted", SECRET.trim_start_matches("whsec_")]
    {
        assert!(!output.contains(secret), "{secret}: {output}");
    }
}
