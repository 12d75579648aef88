//! Misbehaving receivers: each only affects its own subscription, within time and size limits, and the attempt records
//! the failure.

use std::fs;
use std::net::IpAddr;

use hookhub::domain::egress::policy::AllowedTargets;
use hookhub::tools::receive::ReceiverSettings;
use serde_json::{Value, json};

use crate::support::client::{array_at, merged, string_at};
use crate::support::hub::{TestHub, every};
use crate::support::misbehaving_receiver::{Behaviour, ClosedPort, MisbehavingReceiver};
use crate::support::receiver::{LONG_DELAY, TestReceiver, sorted};
use crate::support::waits::{wait_for_attempts, wait_for_deliveries, wait_for_delivery};

/// A hub that makes one attempt, and the first attempt of a delivery to `url`.
async fn first_attempt(url: &str) -> (TestHub, Value) {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let subscription = hub.subscribe(&subscription_to(url)).await;
    let event = hub.publish("a", json!(1)).await;
    let mut attempts = wait_for_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(attempts.len(), 1);
    (hub, attempts.remove(0))
}

fn subscription_to(url: &str) -> Value {
    json!({"event_types": ["a"], "callback_url": url, "timeout_s": 1})
}

fn error(attempt: &Value) -> String {
    assert_eq!(attempt["status_code"], Value::Null, "{attempt}");
    string_at(attempt, "/error")
}

#[tokio::test]
async fn a_receiver_that_refuses_connections_is_retried() {
    let hub = TestHub::start().await;
    let port = ClosedPort::bind();
    let subscription = hub.subscribe(&subscription_to(&port.url())).await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = wait_for_attempts(&hub, &subscription, &event, 3).await;
    assert!(attempts.iter().all(|attempt| error(attempt) == "connect"));
    assert_eq!(
        attempts.iter().map(|attempt| attempt["number"].clone()).collect::<Vec<_>>()[..3],
        [1, 2, 3]
    );
}

#[tokio::test]
async fn a_connection_reset_by_the_receiver_fails_the_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::ResetConnection).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert!(["connect", "protocol"].contains(&&*error(&attempt)), "{attempt}");
}

#[tokio::test]
async fn a_receiver_that_never_responds_times_out() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::NeverRespond).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(error(&attempt), "timeout");
    let latency = attempt["latency_ms"].as_u64().unwrap();
    assert!((990..5_000).contains(&latency), "{latency} ms of one second");
}

#[tokio::test]
async fn a_response_body_sent_byte_by_byte_times_out() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::SlowBody).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(error(&attempt), "timeout", "a 200 with an endless body is not a success");
    assert!(misbehaving.sent() < 1_000);
}

#[tokio::test]
async fn only_part_of_an_endless_response_body_is_read_and_less_is_stored() {
    for (status, code) in [("500 Oh", 500), ("200 OK", 200)] {
        let misbehaving = MisbehavingReceiver::start(Behaviour::EndlessBody(status)).await;
        let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
        assert_eq!(attempt["status_code"], code, "{attempt}");
        let kept = attempt.pointer("/response_body").and_then(Value::as_str).map_or(0, str::len);
        assert!(kept <= 4 << 10, "{kept} bytes kept");
        assert_eq!(kept == 0, code == 200, "the body of a success is not stored");
        // Sockets buffer some megabytes; without a limit it would be gigabytes within a second.
        assert!(misbehaving.sent() < 32 << 20, "{} bytes", misbehaving.sent());
    }
}

#[tokio::test]
async fn an_endless_response_head_fails_the_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::EndlessHead).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert!(["protocol", "timeout"].contains(&&*error(&attempt)), "{attempt}");
    assert!(misbehaving.sent() < 32 << 20, "{} bytes", misbehaving.sent());
}

#[tokio::test]
async fn a_slow_response_head_or_endless_interim_responses_time_out() {
    for behaviour in [Behaviour::SlowHead, Behaviour::EndlessContinue] {
        let misbehaving = MisbehavingReceiver::start(behaviour).await;
        let (hub, attempt) = first_attempt(&misbehaving.url()).await;
        assert!(["protocol", "timeout"].contains(&&*error(&attempt)), "{attempt}");
        let latency = attempt["latency_ms"].as_u64().unwrap();
        assert!(latency < 5_000, "{latency} ms of one second");
        hub.get("/readyz").await.expect(200);
    }
}

/// Decompressed, the body would be as large as its sender likes: the hub stores the bytes as received.
#[tokio::test]
async fn a_compressed_response_is_stored_without_decompression() {
    // 100 bytes of "a", compressed by gzip(1).
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\xa4\x3d\0\0\x32\x33\x95\xaf\x64\0\0\0";
    let misbehaving = MisbehavingReceiver::start(Behaviour::CompressedBody(gzip)).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(attempt["status_code"], 500);
    let kept = string_at(&attempt, "/response_body");
    assert!(!kept.contains("aaa") && kept.len() < 100, "{kept}");
}

#[tokio::test]
async fn redirects_fail_the_attempt_and_are_not_followed() {
    let mut inner = TestReceiver::start().await;
    let misbehaving = MisbehavingReceiver::start(Behaviour::Redirect(inner.url())).await;
    let (hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(attempt["status_code"], 307);
    let sentinel = hub.subscribe(&inner.subscription_to("b")).await;
    let event = hub.publish("b", json!(1)).await;
    wait_for_delivery(&hub, &sentinel, &event, "delivered").await;
    assert_eq!(inner.next_ids(1).await, [event], "the receiver got only its own event");
    assert!(inner.drain().is_empty());
}

#[tokio::test]
async fn a_receiver_that_closes_idle_connections_gets_each_event_at_the_first_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::CloseAfterFirst).await;
    let hub = TestHub::start().await;
    let wanted = json!({
        "event_types": ["n"], "callback_url": misbehaving.url(), "ordered": true, "retry_schedule_s": [3600],
    });
    let subscription = hub.subscribe(&wanted).await;
    hub.publish_many("n", 300).await;
    wait_for_deliveries(&hub, &subscription, "delivered", 300).await;
    let attempts = hub.list_all(&format!("/v1/attempts?subscription={subscription}")).await;
    assert_eq!(attempts.len(), 300);
}

#[tokio::test]
async fn a_receiver_that_speaks_another_protocol_fails_the_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::OtherProtocol).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(error(&attempt), "protocol");
}

#[tokio::test]
async fn a_truncated_response_fails_the_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::TruncatedBody).await;
    let (_hub, attempt) = first_attempt(&misbehaving.url()).await;
    assert_eq!(error(&attempt), "protocol");
}

#[tokio::test]
async fn https_to_a_receiver_without_tls_fails_the_attempt() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::OtherProtocol).await;
    let (_hub, attempt) = first_attempt(&misbehaving.https_url()).await;
    assert_eq!(error(&attempt), "tls", "{attempt}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_not_trusted() {
    let misbehaving = MisbehavingReceiver::start(Behaviour::SelfSignedCertificate).await;
    let (_hub, attempt) = first_attempt(&misbehaving.https_url()).await;
    assert_eq!(error(&attempt), "tls", "{attempt}");
    assert_eq!(misbehaving.requests(), 1);
}

#[tokio::test]
async fn a_name_without_an_address_fails_the_attempt() {
    let (_hub, attempt) = first_attempt("http://no-such-host.invalid/").await;
    assert_eq!(error(&attempt), "dns");
}

/// A name that the hosts file maps to a private address, other than `localhost`.
fn private_name() -> Option<String> {
    let table = fs::read_to_string("/etc/hosts").ok()?;
    let public = |address: &str| {
        address.parse::<IpAddr>().is_ok_and(|ip| AllowedTargets::default().check(ip).is_ok())
    };
    table.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        let name = words.find(|name| !name.contains("localhost"))?;
        (!public(address)).then(|| name.to_owned())
    })
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_blocked_at_connect() {
    let Some(name) = private_name() else { return };
    let receiver = TestReceiver::start().await;
    let port = receiver.url().rsplit(':').next().unwrap().trim_end_matches("/hooks").to_owned();
    let hub = TestHub::start_with(|settings| {
        settings.egress.targets.allow = AllowedTargets::default();
        settings.retry_schedule = every(LONG_DELAY);
    })
    .await;
    let subscription = hub.subscribe(&subscription_to(&format!("http://{name}:{port}/"))).await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = wait_for_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(error(&attempts[0]), "blocked");
}

#[tokio::test]
async fn an_address_that_is_no_longer_allowed_is_blocked_at_the_next_attempt() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |settings| {
        settings.egress.targets.allow = AllowedTargets::default();
        settings.retry_schedule = every(LONG_DELAY);
    })
    .await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = wait_for_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(error(&attempts[0]), "blocked");
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn the_response_of_a_failed_attempt_is_recorded() {
    let answers = ReceiverSettings {
        answers: vec![503],
        retry_after_s: Some(7_000),
        ..TestReceiver::settings()
    };
    let receiver = TestReceiver::with(answers).await;
    let hub = TestHub::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    let attempt = wait_for_attempts(&hub, &subscription, &event, 1).await.remove(0);
    assert_eq!(attempt["status_code"], 503);
    assert_eq!(attempt["number"], 1);
    assert!(string_at(&attempt, "/id").starts_with("att_"));
    assert!(string_at(&attempt, "/response_body").contains("as configured"));
    assert_eq!(string_at(&attempt, "/response_headers/retry-after"), "7000");
}

#[tokio::test]
async fn a_healthy_receiver_beside_hostile_ones_gets_every_event_without_delay() {
    let hub = TestHub::start().await;
    let mut held = Vec::new();
    for behaviour in [
        Behaviour::NeverRespond,
        Behaviour::NeverRespond,
        Behaviour::SlowBody,
        Behaviour::EndlessBody("500 Oh"),
        Behaviour::ResetConnection,
    ] {
        let misbehaving = MisbehavingReceiver::start(behaviour).await;
        let id = hub
            .subscribe(&merged(
                subscription_to(&misbehaving.url()),
                json!({"timeout_s": 30, "event_types": ["n"]}),
            ))
            .await;
        held.push((id, misbehaving));
    }
    let mut healthy = TestReceiver::start().await;
    let subscription = hub.subscribe(&healthy.subscription_to("n")).await;
    let ids = hub.publish_many("n", 1_000).await;
    assert_eq!(sorted(healthy.next_ids(1_000).await), ids);
    wait_for_deliveries(&hub, &subscription, "delivered", 1_000).await;

    // The hanging receivers hold their own slots: their first attempts are still in flight, and no others.
    for (id, misbehaving) in held.iter().take(2) {
        let delivered = hub
            .get(&format!("/v1/subscriptions/{id}/deliveries?status=delivered"))
            .await
            .expect(200);
        assert!(array_at(&delivered, "/data").is_empty());
        assert!((1..=16).contains(&misbehaving.requests()), "{}", misbehaving.requests());
    }
}
