//! Misbehaving receivers: each only affects its own subscription, within time and size limits, and the attempt records
//! the failure.

use std::fs;
use std::net::IpAddr;

use hookhub::domain::egress::policy::AllowedTargets;
use hookhub::tools::receive::ReceiverSettings;
use serde_json::{Value, json};

use crate::support::client::{each, text, with};
use crate::support::hostile::{ClosedPort, Hostile, Malice};
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{NEVER, TestReceiver, sorted};
use crate::support::views::{until_all, until_attempts, until_state};

/// A hub that makes one attempt, and the first attempt of a delivery to `url`.
async fn first_attempt(url: &str) -> (TestHub, Value) {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(NEVER)).await;
    let subscription = hub.subscribe(&wants(url)).await;
    let event = hub.publish("a", json!(1)).await;
    let mut attempts = until_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(attempts.len(), 1);
    (hub, attempts.remove(0))
}

fn wants(url: &str) -> Value {
    json!({"event_types": ["a"], "callback_url": url, "timeout_s": 1})
}

fn error(attempt: &Value) -> String {
    assert_eq!(attempt["status_code"], Value::Null, "{attempt}");
    text(attempt, "/error")
}

#[tokio::test]
async fn a_receiver_that_refuses_connections_is_retried() {
    let hub = TestHub::start().await;
    let port = ClosedPort::take();
    let subscription = hub.subscribe(&wants(&port.url())).await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = until_attempts(&hub, &subscription, &event, 3).await;
    assert!(attempts.iter().all(|attempt| error(attempt) == "connect"));
    assert_eq!(
        attempts.iter().map(|attempt| attempt["number"].clone()).collect::<Vec<_>>()[..3],
        [1, 2, 3]
    );
}

#[tokio::test]
async fn a_connection_reset_by_the_receiver_fails_the_attempt() {
    let hostile = Hostile::start(Malice::Resets).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert!(["connect", "protocol"].contains(&&*error(&attempt)), "{attempt}");
}

#[tokio::test]
async fn a_receiver_that_never_responds_times_out() {
    let hostile = Hostile::start(Malice::Hangs).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(error(&attempt), "timeout");
    let latency = attempt["latency_ms"].as_u64().unwrap();
    assert!((990..5_000).contains(&latency), "{latency} ms of one second");
}

#[tokio::test]
async fn a_response_body_sent_byte_by_byte_times_out() {
    let hostile = Hostile::start(Malice::Drips).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(error(&attempt), "timeout", "a 200 whose body never ends is no success");
    assert!(hostile.sent() < 1_000);
}

#[tokio::test]
async fn only_part_of_an_endless_response_body_is_read_and_less_is_stored() {
    for (status, code) in [("500 Oh", 500), ("200 OK", 200)] {
        let hostile = Hostile::start(Malice::Endless(status)).await;
        let (_hub, attempt) = first_attempt(&hostile.url()).await;
        assert_eq!(attempt["status_code"], code, "{attempt}");
        let kept = attempt.pointer("/response_body").and_then(Value::as_str).map_or(0, str::len);
        assert!(kept <= 4 << 10, "{kept} bytes kept");
        assert_eq!(kept == 0, code == 200, "what successes say is not kept");
        // Sockets buffer some megabytes; without a limit it would be gigabytes within a second.
        assert!(hostile.sent() < 32 << 20, "{} bytes", hostile.sent());
    }
}

#[tokio::test]
async fn an_endless_response_head_fails_the_attempt() {
    let hostile = Hostile::start(Malice::EndlessHead).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert!(["protocol", "timeout"].contains(&&*error(&attempt)), "{attempt}");
    assert!(hostile.sent() < 32 << 20, "{} bytes", hostile.sent());
}

#[tokio::test]
async fn a_slow_response_head_or_endless_interim_responses_time_out() {
    for malice in [Malice::DripsHead, Malice::Continues] {
        let hostile = Hostile::start(malice).await;
        let (hub, attempt) = first_attempt(&hostile.url()).await;
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
    let hostile = Hostile::start(Malice::Compressed(gzip)).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(attempt["status_code"], 500);
    let kept = text(&attempt, "/response_body");
    assert!(!kept.contains("aaa") && kept.len() < 100, "{kept}");
}

#[tokio::test]
async fn redirects_fail_the_attempt_and_are_not_followed() {
    let mut inner = TestReceiver::start().await;
    let hostile = Hostile::start(Malice::Redirects(inner.url())).await;
    let (hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(attempt["status_code"], 307);
    let sentinel = hub.subscribe(&inner.wants("b")).await;
    let event = hub.publish("b", json!(1)).await;
    until_state(&hub, &sentinel, &event, "delivered").await;
    assert_eq!(inner.take_ids(1).await, [event], "nothing but its own came");
    assert!(inner.more().is_empty());
}

#[tokio::test]
async fn a_receiver_that_closes_idle_connections_gets_each_event_at_the_first_attempt() {
    let hostile = Hostile::start(Malice::HangsUp).await;
    let hub = TestHub::start().await;
    let wanted = json!({
        "event_types": ["n"], "callback_url": hostile.url(), "ordered": true, "retry_schedule_s": [3600],
    });
    let subscription = hub.subscribe(&wanted).await;
    hub.publish_many("n", 300).await;
    until_all(&hub, &subscription, "delivered", 300).await;
    let attempts = hub.all(&format!("/v1/attempts?subscription={subscription}")).await;
    assert_eq!(attempts.len(), 300);
}

#[tokio::test]
async fn a_receiver_that_speaks_another_protocol_fails_the_attempt() {
    let hostile = Hostile::start(Malice::Gibberish).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(error(&attempt), "protocol");
}

#[tokio::test]
async fn a_truncated_response_fails_the_attempt() {
    let hostile = Hostile::start(Malice::BreaksOff).await;
    let (_hub, attempt) = first_attempt(&hostile.url()).await;
    assert_eq!(error(&attempt), "protocol");
}

#[tokio::test]
async fn https_to_a_receiver_without_tls_fails_the_attempt() {
    let hostile = Hostile::start(Malice::Gibberish).await;
    let (_hub, attempt) = first_attempt(&hostile.https_url()).await;
    assert_eq!(error(&attempt), "tls", "{attempt}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_not_trusted() {
    let hostile = Hostile::start(Malice::SelfSigned).await;
    let (_hub, attempt) = first_attempt(&hostile.https_url()).await;
    assert_eq!(error(&attempt), "tls", "{attempt}");
    assert_eq!(hostile.requests(), 1);
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
        settings.retry_schedule = every(NEVER);
    })
    .await;
    let subscription = hub.subscribe(&wants(&format!("http://{name}:{port}/"))).await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = until_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(error(&attempts[0]), "blocked");
}

#[tokio::test]
async fn an_address_that_is_no_longer_allowed_is_blocked_at_the_next_attempt() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.wants("a")).await;
    let database = hub.stop().await;
    let hub = TestHub::start_on(&database, |settings| {
        settings.egress.targets.allow = AllowedTargets::default();
        settings.retry_schedule = every(NEVER);
    })
    .await;
    let event = hub.publish("a", json!(1)).await;
    let attempts = until_attempts(&hub, &subscription, &event, 1).await;
    assert_eq!(error(&attempts[0]), "blocked");
    assert!(receiver.more().is_empty());
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
    let subscription = hub.subscribe(&receiver.wants("a")).await;
    let event = hub.publish("a", json!(1)).await;
    let attempt = until_attempts(&hub, &subscription, &event, 1).await.remove(0);
    assert_eq!(attempt["status_code"], 503);
    assert_eq!(attempt["number"], 1);
    assert!(text(&attempt, "/id").starts_with("att_"));
    assert!(text(&attempt, "/response_body").contains("as configured"));
    assert_eq!(text(&attempt, "/response_headers/retry-after"), "7000");
}

#[tokio::test]
async fn a_healthy_receiver_beside_hostile_ones_gets_every_event_without_delay() {
    let hub = TestHub::start().await;
    let mut held = Vec::new();
    for malice in
        [Malice::Hangs, Malice::Hangs, Malice::Drips, Malice::Endless("500 Oh"), Malice::Resets]
    {
        let hostile = Hostile::start(malice).await;
        let id = hub
            .subscribe(&with(wants(&hostile.url()), json!({"timeout_s": 30, "event_types": ["n"]})))
            .await;
        held.push((id, hostile));
    }
    let mut healthy = TestReceiver::start().await;
    let subscription = hub.subscribe(&healthy.wants("n")).await;
    let ids = hub.publish_many("n", 1_000).await;
    assert_eq!(sorted(healthy.take_ids(1_000).await), ids);
    until_all(&hub, &subscription, "delivered", 1_000).await;

    // The hanging receivers hold their own slots: their first attempts are still in flight, and no others.
    for (id, hostile) in held.iter().take(2) {
        let delivered = hub
            .get(&format!("/v1/subscriptions/{id}/deliveries?status=delivered"))
            .await
            .expect(200);
        assert!(each(&delivered, "/data").is_empty());
        assert!((1..=16).contains(&hostile.requests()), "{}", hostile.requests());
    }
}
