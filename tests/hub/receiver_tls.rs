//! TLS settings of a subscription: its own CA, its own client certificate, and its own connections.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::client::{array_at, merged, string_at};
use crate::support::eventually;
use crate::support::hub::{TestHub, every};
use crate::support::receiver::LONG_DELAY;
use crate::support::tls_receiver::{ClientAuth, TlsReceiver, sha256_of};
use crate::support::waits::{wait_for_attempts, wait_for_deliveries, wait_for_delivery};

const PATH: &str = "/v1/subscriptions";

fn subscription_to(receiver: &TlsReceiver, tls: &Value) -> Value {
    json!({"event_types": ["a"], "callback_url": receiver.url(), "tls": tls})
}

async fn once() -> TestHub {
    TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await
}

/// The error class of the first attempt of an event.
async fn error(hub: &TestHub, subscription: &str, event: &str) -> String {
    string_at(&wait_for_attempts(hub, subscription, event, 1).await.remove(0), "/error")
}

#[tokio::test]
async fn a_custom_ca_is_trusted_only_by_its_own_subscription() {
    let (hub, authority) = (once().await, Authority::new());
    let receiver = TlsReceiver::start(&authority.issue("127.0.0.1"), ClientAuth::None).await;
    let trusting =
        hub.subscribe(&subscription_to(&receiver, &json!({"ca": authority.pem()}))).await;
    let bundle = format!("{}{}", Authority::new().pem(), authority.pem());
    let with_bundle = hub.subscribe(&subscription_to(&receiver, &json!({"ca": bundle}))).await;
    let by_system = hub.subscribe(&subscription_to(&receiver, &Value::Null)).await;
    let of_another =
        hub.subscribe(&subscription_to(&receiver, &json!({"ca": Authority::new().pem()}))).await;
    let elsewhere = TlsReceiver::start(&authority.issue("127.0.0.2"), ClientAuth::None).await;
    let misnamed =
        hub.subscribe(&subscription_to(&elsewhere, &json!({"ca": authority.pem()}))).await;

    let event = hub.publish("a", json!(1)).await;
    for subscription in [&trusting, &with_bundle] {
        wait_for_delivery(&hub, subscription, &event, "delivered").await;
    }
    for subscription in [&by_system, &of_another, &misnamed] {
        assert_eq!(error(&hub, subscription, &event).await, "tls");
    }
    assert_eq!(receiver.requests().len(), 2);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_client_certificate_is_presented_also_after_a_restart() {
    let (hub, authority, clients) = (once().await, Authority::new(), Authority::new());
    let receiver =
        TlsReceiver::start(&authority.issue("127.0.0.1"), ClientAuth::Required(&clients)).await;
    let (known, stranger) = (clients.issue("hub.example"), Authority::new().issue("hub.example"));
    let tls = |identity: &crate::support::certificates::Identity| {
        json!({
            "ca": authority.pem(), "client_certificate": identity.certificate, "client_key": identity.key
        })
    };
    let let_in = hub.subscribe(&subscription_to(&receiver, &tls(&known))).await;
    let unknown = hub.subscribe(&subscription_to(&receiver, &tls(&stranger))).await;
    let nobody = hub.subscribe(&subscription_to(&receiver, &json!({"ca": authority.pem()}))).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &let_in, &event, "delivered").await;
    for subscription in [&unknown, &nobody] {
        assert_eq!(error(&hub, subscription, &event).await, "tls");
    }

    let hub = TestHub::start_on(&hub.stop().await, |_| ()).await;
    let event = hub.publish("a", json!(2)).await;
    wait_for_delivery(&hub, &let_in, &event, "delivered").await;
    let shown = sha256_of(&known.certificate);
    let view = hub.subscription(&let_in).await;
    assert_eq!(string_at(&view, "/tls/client_certificate/sha256"), shown);
    let calls = receiver.requests();
    assert!(calls.iter().all(|call| call.client_certificate.as_ref() == Some(&shown)), "{calls:?}");
    assert!(
        calls
            .iter()
            .all(|call| call.request.header("webhook-subscription").as_ref() == Some(&let_in))
    );
}

#[tokio::test]
async fn connections_with_one_subscriptions_identity_carry_no_deliveries_of_another() {
    let (hub, authority, clients) = (TestHub::start().await, Authority::new(), Authority::new());
    let receiver =
        TlsReceiver::start(&authority.issue("127.0.0.1"), ClientAuth::Optional(&clients)).await;
    let mut expected = Vec::new();
    for name in ["one.example", "two.example", ""] {
        let identity = clients.issue("x.example");
        let mut tls = json!({"ca": authority.pem()});
        if !name.is_empty() {
            let own =
                json!({"client_certificate": identity.certificate, "client_key": identity.key});
            tls = merged(tls, own);
        }
        let id = hub.subscribe(&subscription_to(&receiver, &tls)).await;
        expected.push((id, (!name.is_empty()).then(|| sha256_of(&identity.certificate))));
    }
    // First one after the other, then all at once, so that idle connections could be mixed up.
    for round in 0..3 {
        hub.publish_many("a", 1 + round * 20).await;
        for (id, _) in &expected {
            wait_for_deliveries(&hub, id, "delivered", [1, 22, 63][round]).await;
        }
    }
    let calls = receiver.requests();
    assert_eq!(calls.len(), 63 * 3);
    for call in calls {
        let id = call.request.header("webhook-subscription").unwrap();
        let (_, identity) = expected.iter().find(|(known, _)| *known == id).unwrap();
        assert_eq!(&call.client_certificate, identity);
    }
}

#[tokio::test]
async fn a_client_key_is_never_shown_and_stays_until_replaced() {
    let (hub, clients) = (TestHub::start().await, Authority::new());
    let identity = clients.issue("hub.example");
    let tls = json!({"client_certificate": identity.certificate, "client_key": identity.key});
    let definition = json!({
        "event_types": ["a"], "callback_url": "https://example.com/", "tls": tls
    });
    let created = hub.post(PATH, &definition).await.expect(201);
    let path = format!("{PATH}/{}", string_at(&created, "/id"));
    assert_eq!(created["tls"]["client_key"], "***");
    assert_eq!(created["tls"]["ca"], Value::Null);
    assert!(created["tls"]["client_certificate"]["expires_at"].is_string());
    let patched = hub.send(Method::PATCH, &path, &json!({"description": "x"})).await.expect(200);
    assert_eq!(patched["tls"], created["tls"]);
    for response in [
        hub.get(&path).await.body,
        hub.get(PATH).await.body,
        hub.get("/v1/events?types=hookhub.subscription.*").await.body,
    ] {
        assert!(response.contains("client_key") && !response.contains("BEGIN"), "{response}");
    }
    // The masked value cannot be sent back.
    hub.send(Method::PATCH, &path, &json!({"tls": created["tls"]}))
        .await
        .expect_invalid("/tls/client_key");
    let gone = hub.send(Method::PATCH, &path, &json!({"tls": null})).await.expect(200);
    assert_eq!(gone["tls"], Value::Null);
}

#[tokio::test]
async fn invalid_tls_settings_are_refused_with_the_field_and_without_the_key() {
    let (hub, clients) = (TestHub::start().await, Authority::new());
    let (own, other) = (clients.issue("a.example"), clients.issue("b.example"));
    let (certificate, key) = (&own.certificate, &own.key);
    let large = certificate.repeat(64);
    for (tls, pointer) in [
        (json!("x"), "/tls"),
        (json!({}), "/tls"),
        (json!({"ca": 1}), "/tls/ca"),
        (json!({"ca": "x"}), "/tls/ca"),
        (json!({"ca": key}), "/tls/ca"),
        (json!({"ca": large}), "/tls/ca"),
        (json!({"client_certificate": certificate}), "/tls/client_key"),
        (json!({"client_key": key}), "/tls/client_certificate"),
        (json!({"client_certificate": certificate, "client_key": other.key}), "/tls/client_key"),
        (json!({"client_certificate": key, "client_key": key}), "/tls/client_certificate"),
        (json!({"client_certificate": certificate, "client_key": "***"}), "/tls/client_key"),
        (json!({"ca": certificate, "verify": false}), "/tls/verify"),
    ] {
        let definition = json!({
            "event_types": ["a"], "callback_url": "https://example.com/", "tls": tls
        });
        let response = hub.post(PATH, &definition).await;
        response.expect_invalid(pointer);
        assert!(!response.body.contains("PRIVATE KEY"), "{}", response.body);
    }
    let plain = json!({
        "event_types": ["a"], "callback_url": "http://example.com/", "tls": {"ca": certificate}
    });
    hub.post(PATH, &plain).await.expect_invalid("/tls");
}

#[tokio::test]
async fn a_changed_client_certificate_is_presented_from_then_on() {
    let (hub, authority, clients) = (TestHub::start().await, Authority::new(), Authority::new());
    let receiver =
        TlsReceiver::start(&authority.issue("127.0.0.1"), ClientAuth::Required(&clients)).await;
    let identities = [clients.issue("hub.example"), clients.issue("hub.example")];
    let tls = identities.each_ref().map(|one| {
        json!({"ca": authority.pem(), "client_certificate": one.certificate, "client_key": one.key})
    });
    let id = hub.subscribe(&subscription_to(&receiver, &tls[0])).await;
    let first = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &id, &first, "delivered").await;
    let change = json!({"tls": tls[1]});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect(200);
    let second = hub.publish("a", json!(2)).await;
    wait_for_delivery(&hub, &id, &second, "delivered").await;
    let seen = eventually("both events arrive", async || {
        let calls = receiver.requests();
        (calls.len() == 2).then_some(calls)
    });
    let seen: Vec<_> = seen.await.into_iter().filter_map(|call| call.client_certificate).collect();
    assert_eq!(seen, identities.each_ref().map(|one| sha256_of(&one.certificate)));
    assert_eq!(array_at(&hub.get(PATH).await.expect(200), "/data").len(), 1);
}
