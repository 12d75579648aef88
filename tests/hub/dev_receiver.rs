//! The development receiver: signature checks, scripted responses, and the output of `hookhub receive`.

use std::time::Duration;

use hookhub::config::Settings;
use hookhub::domain::signing::secret::{BadSignature, Secret};
use hookhub::domain::time::UnixMillis;
use hookhub::tools::receive::{ReceiverSettings, SignatureCheck, VerificationFailure};
use nix::sys::signal::Signal;
use reqwest::{Method, Response};
use serde_json::json;

use crate::support::client::{http, merged};
use crate::support::hub::TestHub;
use crate::support::process::{Environment, Program};
use crate::support::receiver::{SECRET, TestReceiver};

const BODY: &str = r#"{"id":"evt_1","type":"a","timestamp":"2026-11-23T14:00:00.000Z","data":1}"#;

async fn send(url: &str, signed_with: Option<&Secret>, timestamp_s: i64) -> Response {
    let mut request = http()
        .post(url)
        .body(BODY)
        .header("webhook-id", "evt_1")
        .header("webhook-timestamp", timestamp_s);
    if let Some(secret) = signed_with {
        request =
            request.header("webhook-signature", secret.sign("evt_1", timestamp_s, BODY.as_bytes()));
    }
    request.send().await.expect("a response")
}

fn secret() -> Secret {
    SECRET.parse().expect("a secret")
}

#[tokio::test]
async fn dev_receiver_rejects_unsigned_or_expired_requests_without_using_up_a_scripted_response() {
    let settings = ReceiverSettings {
        answers: vec![202, 503],
        retry_after_s: Some(7),
        ..TestReceiver::settings()
    };
    let (receiver, mut seen) = hookhub::tools::receive::Receiver::start(settings).await.unwrap();
    let url = format!("http://{}/any/path?q=1", receiver.address());
    let now = UnixMillis::now().seconds();
    for (key, timestamp, distrust) in [
        (None, now, VerificationFailure::Missing("webhook-signature")),
        (Some(Secret::from_random([7; 32])), now, BadSignature::Mismatch.into()),
        (Some(secret()), now - 301, BadSignature::Timestamp.into()),
    ] {
        assert_eq!(send(&url, key.as_ref(), timestamp).await.status(), 401);
        assert_eq!(seen.recv().await.unwrap().verified, SignatureCheck::Invalid(distrust));
    }
    for (status, retry_after) in [(202, None), (503, Some("7")), (503, Some("7"))] {
        let response = send(&url, Some(&secret()), now).await;
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers().get("retry-after").map(|value| value.to_str().unwrap()),
            retry_after
        );
        let delivery = seen.recv().await.unwrap();
        assert_eq!((delivery.verified, delivery.status), (SignatureCheck::Valid, status));
        assert_eq!(
            (delivery.path.as_str(), &delivery.body[..]),
            ("/any/path?q=1", BODY.as_bytes())
        );
    }
    receiver.stop().await;
    let gone = http().post(&url).send().await;
    assert!(gone.is_err_and(|error| error.is_connect()));
}

#[tokio::test]
async fn dev_receiver_accepts_any_of_several_secrets_and_skips_verification_without_one() {
    let now = UnixMillis::now().seconds();
    let (old, new) = (Secret::from_random([1; 32]), Secret::from_random([2; 32]));
    for (secrets, verified, status) in [
        (vec![old, new.clone()], SignatureCheck::Valid, 204),
        (Vec::new(), SignatureCheck::NotChecked, 204),
    ] {
        let settings = ReceiverSettings { secrets, ..ReceiverSettings::default() };
        let (receiver, mut seen) =
            hookhub::tools::receive::Receiver::start(settings).await.unwrap();
        let url = format!("http://{}/", receiver.address());
        assert_eq!(send(&url, Some(&new), now).await.status(), status);
        assert_eq!(seen.recv().await.unwrap().verified, verified);
        assert_eq!(receiver.dropped(), 0);
    }
}

#[tokio::test]
async fn dev_receiver_rejects_other_methods_and_large_bodies() {
    let (receiver, _seen) =
        hookhub::tools::receive::Receiver::start(ReceiverSettings::default()).await.unwrap();
    let url = format!("http://{}/", receiver.address());
    let client = http();
    let get = client.request(Method::GET, &url).send().await.unwrap();
    assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let large = client.post(&url).body(vec![b'x'; (1 << 20) + 1]).send().await.unwrap();
    assert_eq!(large.status(), 413);
}

#[tokio::test]
async fn dev_receiver_responds_after_the_configured_delay() {
    let settings =
        ReceiverSettings { delay: Duration::from_millis(300), ..TestReceiver::settings() };
    let (receiver, _seen) = hookhub::tools::receive::Receiver::start(settings).await.unwrap();
    let began = std::time::Instant::now();
    send(&format!("http://{}/", receiver.address()), Some(&secret()), UnixMillis::now().seconds())
        .await;
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn hookhub_receive_prints_each_delivery_and_its_verification_result() {
    let hub = TestHub::start().await;
    let arguments = [
        "receive",
        "--listen",
        "127.0.0.1:0",
        "--secret",
        SECRET,
        "--answer",
        "500,200",
        "--delay-ms",
        "1",
    ];
    let receiver = Program::start(&arguments, &Environment::default());
    let line = receiver.wait_for_line("http://127.0.0.1:").await;
    let after = line.split("http://").nth(1).unwrap();
    let address =
        after.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').next().unwrap();
    let url = format!("http://{address}/");
    hub.subscribe(&json!({"event_types": ["order.*"], "callback_url": url, "secret": SECRET}))
        .await;
    let event = hub.publish("order.paid", json!({"amount": 7})).await;
    for shown in [
        format!("{event} order.paid attempt 1 verified → 500  {{\"amount\":7}}"),
        format!("{event} order.paid attempt 2 verified → 200  {{\"amount\":7}}"),
    ] {
        receiver.wait_for_line(&shown).await;
    }
    assert_eq!(send(&url, None, UnixMillis::now().seconds()).await.status(), 401);
    receiver.wait_for_line("attempt 0 NOT VERIFIED → 401").await;
    receiver.wait_for_line("  the header webhook-signature is missing").await;
    receiver.signal(Signal::SIGINT);
    let (status, output) = receiver.wait_for_end().await;
    assert!(status.success(), "{output}");
}

#[tokio::test]
async fn dev_receiver_confirms_verification_without_using_up_a_scripted_response() {
    let settings = ReceiverSettings { answers: vec![202, 503], ..TestReceiver::settings() };
    let (receiver, mut seen) = hookhub::tools::receive::Receiver::start(settings).await.unwrap();
    let (url, client) = (format!("http://{}/hooks", receiver.address()), http());
    let get =
        client.get(format!("{url}?hub.challenge=%3Cabc%3E&challenge=x")).send().await.unwrap();
    assert_eq!(get.headers()["content-type"], "text/plain");
    assert_eq!(get.text().await.unwrap(), "<abc>");

    let preflight =
        client.request(Method::OPTIONS, &url).header("webhook-request-origin", "h.example");
    let headers = preflight.send().await.unwrap().headers().clone();
    assert_eq!(
        (&headers["webhook-allowed-origin"], &headers["webhook-allowed-rate"]),
        (&"h.example".parse().unwrap(), &"*".parse().unwrap())
    );

    let response = client.post(&url).header("x-hook-secret", "whsec_of_a_handshake").send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-hook-secret"], "whsec_of_a_handshake");
    let now = UnixMillis::now().seconds();
    assert_eq!(send(&url, Some(&secret()), now).await.status(), 202);
    assert_eq!(seen.recv().await.unwrap().status, 202);
    assert!(seen.try_recv().is_err(), "a handshake is not reported as a delivery");
}

#[tokio::test]
async fn the_hub_verifies_the_dev_receiver_and_then_delivers() {
    let named =
        |settings: &mut Settings| settings.webhook_origin = Some("h.example".parse().unwrap());
    let hub = TestHub::start_with(named).await;
    for way in ["x_hook_secret", "challenge", "cloudevents"] {
        let mut receiver = TestReceiver::start().await;
        let id =
            hub.subscribe(&merged(receiver.subscription_to("a"), json!({"handshake": way}))).await;
        let event = hub.publish("a", json!(1)).await;
        assert_eq!(receiver.next().await.id, event, "{way}");
        hub.delete(&format!("/v1/subscriptions/{id}")).await;
    }
}
