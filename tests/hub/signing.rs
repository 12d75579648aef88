//! Signatures of deliveries: several secrets during a rotation, Ed25519, and `X-Hook-Signature`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hookhub::domain::signing::secret::{Secret, Signed};
use hookhub::domain::time::UnixMillis;
use hookhub::tools::receive::{Delivery, ReceiverSettings};
use reqwest::Method;
use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::hub::TestHub;
use crate::support::receiver::{SECRET, TestReceiver};
use crate::support::{eventually, hex};

const PATH: &str = "/v1/subscriptions";

/// The headers that the signatures of a delivery cover.
fn signed(delivery: &Delivery) -> Signed<'_> {
    let header = |name: &str| delivery.header(name).expect(name);
    Signed {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    }
}

/// The schemes of the signatures, in order.
fn schemes(delivery: &Delivery) -> Vec<&str> {
    let signatures = signed(delivery).signature.split(' ');
    signatures.map(|one| one.split_once(',').expect("scheme,signature").0).collect()
}

fn is_signed_by(delivery: &Delivery, secret: &str) -> bool {
    let secret: Secret = secret.parse().expect("a secret");
    secret.verify(&signed(delivery), &delivery.body, UnixMillis::now()).is_ok()
}

/// Whether one of the signatures is by this public key of 32 bytes.
fn is_signed_by_key(delivery: &Delivery, public_key: &[u8]) -> bool {
    let Signed { id, timestamp, signature } = signed(delivery);
    let content = [format!("{id}.{timestamp}.").as_bytes(), &delivery.body].concat();
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    signature
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1a,"))
        .any(|encoded| key.verify(&content, &STANDARD.decode(encoded).expect("base64")).is_ok())
}

fn bytes_of(jwk: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(string_at(jwk, "/x")).expect("base64")
}

/// A receiver that accepts every signature.
async fn receiver() -> TestReceiver {
    let settings = ReceiverSettings { secrets: Vec::new(), ..TestReceiver::settings() };
    TestReceiver::with(settings).await
}

/// Rotates the secret and returns the response.
async fn rotate(hub: &Client, id: &str, body: &Value) -> Value {
    hub.post(&format!("{PATH}/{id}/rotate-secret"), body).await.expect(200)
}

/// Publishes an event and returns its delivery.
async fn delivered(hub: &Client, receiver: &mut TestReceiver) -> Delivery {
    let id = hub.publish("n", json!(1)).await;
    let delivery = receiver.next_unverified().await;
    assert_eq!(delivery.id, id);
    delivery
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_new_one_during_the_overlap() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;

    let before = UnixMillis::now();
    let rotated = rotate(&hub, &id, &json!({})).await;
    let new = string_at(&rotated, "/secret");
    assert!(new.starts_with("whsec_") && new != SECRET);
    assert_eq!(rotated["id"], id.as_str());
    let end = UnixMillis::parse(&string_at(&rotated, "/previous_secrets/0/expires_at")).unwrap();
    let day = Duration::from_secs(86_400);
    assert!(before.after(day) <= end && end <= UnixMillis::now().after(day), "{rotated}");

    let delivery = delivered(&hub, &mut receiver).await;
    assert!(is_signed_by(&delivery, SECRET) && is_signed_by(&delivery, &new));
    assert_eq!(schemes(&delivery), ["v1", "v1"]);
    let newest = new.parse::<Secret>().unwrap();
    let Signed { id: event, timestamp, signature } = signed(&delivery);
    let first = newest.sign(event, timestamp.parse().unwrap(), &delivery.body);
    assert!(signature.starts_with(&first), "the newest secret is first");

    let shown = hub.subscription(&id).await;
    assert_eq!(shown["previous_secrets"], rotated["previous_secrets"]);
    assert!(shown.get("secret").is_none(), "the secret is shown once");
}

#[tokio::test]
async fn a_leaked_secret_signs_nothing_after_the_rotation() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    rotate(&hub, &id, &json!({})).await;
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let rotated = rotate(&hub, &id, &json!({"secret": own, "overlap_s": 0})).await;
    assert_eq!((&rotated["secret"], &rotated["previous_secrets"]), (&json!(own), &json!([])));
    let delivery = delivered(&hub, &mut receiver).await;
    assert!(is_signed_by(&delivery, own) && !is_signed_by(&delivery, SECRET));
    assert_eq!(schemes(&delivery).len(), 1);
}

#[tokio::test]
async fn a_rotation_overlap_ends_by_itself_and_leaves_no_secret_stored() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let new = string_at(&rotate(&hub, &id, &json!({"overlap_s": 1})).await, "/secret");
    let delivery = eventually("the old secret ends", async || {
        let delivery = delivered(&hub, &mut receiver).await;
        (!is_signed_by(&delivery, SECRET)).then_some(delivery)
    })
    .await;
    assert!(is_signed_by(&delivery, &new));
    assert_eq!(hub.subscription(&id).await["previous_secrets"], json!([]));

    // The cleanup at every start removes the rest from storage.
    let ends = "SELECT count(*) FROM secret_ends";
    assert_eq!(hub.database.query_number(ends).await, 1);
    let other = TestHub::start_on(&hub.database, |_| ()).await;
    let gone = async || (hub.database.query_number(ends).await == 0).then_some(());
    eventually("the old secret is dropped", gone).await;
    assert!(is_signed_by(&delivered(&other, &mut receiver).await, &new));
}

#[tokio::test]
async fn at_most_five_secrets_are_active() {
    let hub = TestHub::start().await;
    let receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    for _ in 0..4 {
        rotate(&hub, &id, &json!({})).await;
    }
    let path = format!("{PATH}/{id}/rotate-secret");
    hub.post(&path, &json!({})).await.expect_problem(409, "too_many_secrets");
    let rotated = rotate(&hub, &id, &json!({"overlap_s": 0})).await;
    assert_eq!(rotated["previous_secrets"], json!([]));
}

#[tokio::test]
async fn a_secret_set_by_the_owner_replaces_all_others_at_once() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    rotate(&hub, &id, &json!({})).await;
    let path = format!("{PATH}/{id}");
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let patched = hub.send(Method::PATCH, &path, &json!({"description": "x"})).await.expect(200);
    assert_eq!(
        array_at(&patched, "/previous_secrets").len(),
        1,
        "another change keeps the secrets"
    );
    let put = merged(receiver.subscription_to("n"), json!({"secret": own}));
    let put = hub.send(Method::PUT, &path, &put).await.expect(200);
    assert_eq!(put["previous_secrets"], json!([]));
    let delivery = delivered(&hub, &mut receiver).await;
    assert!(is_signed_by(&delivery, own) && schemes(&delivery).len() == 1);
}

#[tokio::test]
async fn a_repeated_rotation_rotates_once() {
    let hub = TestHub::start().await;
    let receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let path = format!("{PATH}/{id}/rotate-secret");
    let body = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    let first = hub.post_idempotent(&path, "rotate-1", &body).await;
    let again = hub.post_idempotent(&path, "rotate-1", &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(200), first.expect(200));
    assert_eq!(array_at(&hub.subscription(&id).await, "/previous_secrets").len(), 1);
    hub.post_idempotent(&path, "rotate-1", &json!({}))
        .await
        .expect_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_rotation_is_logged_without_the_secret_and_needs_no_body() {
    let hub = TestHub::start().await;
    let receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let path = format!("{PATH}/{id}/rotate-secret");
    let rotated =
        crate::support::client::send_request(hub.request(Method::POST, &path)).await.expect(200);
    let events = hub.list_all("/v1/events?types=hookhub.subscription.secret_rotated").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["data"]["subscription"]["previous_secrets"], rotated["previous_secrets"]);
    assert!(!events[0].to_string().contains("whsec_"));
    for (body, pointer) in [
        (json!({"overlap_s": 604_801}), "/overlap_s"),
        (json!({"overlap_s": -1}), "/overlap_s"),
        (json!({"secret": "whsec_AAAA"}), "/secret"),
        (json!({"secret": rotated["secret"]}), "/secret"),
        (json!({"overlap": 1}), "/overlap"),
    ] {
        hub.post(&path, &body).await.expect_invalid(pointer);
    }
    let other = hub.acting_for("other");
    other.post(&path, &json!({})).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn deliveries_are_signed_with_ed25519_on_request() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let (path, keys) = (format!("{PATH}/{id}"), format!("{PATH}/{id}/jwks.json"));
    let anyone = hub.with_key(None);
    assert_eq!(schemes(&delivered(&hub, &mut receiver).await), ["v1"], "not without the setting");
    hub.get(&format!("{path}/public-key")).await.expect_problem(404, "not_found");
    anyone.get(&keys).await.expect_problem(404, "not_found");

    let both = json!({"signatures": ["v1a", "v1"]});
    let patched = hub.send(Method::PATCH, &path, &both).await.expect(200);
    assert_eq!(patched["signatures"], json!(["v1", "v1a"]));
    let shown = hub.get(&format!("{path}/public-key")).await.expect(200);
    let public_key = string_at(&shown, "/public_key");
    let old = STANDARD.decode(public_key.strip_prefix("whpk_").unwrap()).unwrap();
    assert_eq!(bytes_of(&shown["jwk"]), old);
    let set = anyone.get(&keys).await;
    assert_eq!(set.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(set.expect(200), json!({"keys": [shown["jwk"]]}));
    let delivery = delivered(&hub, &mut receiver).await;
    assert_eq!(schemes(&delivery), ["v1", "v1a"]);
    assert!(is_signed_by(&delivery, SECRET) && is_signed_by_key(&delivery, &old));

    let rotated = rotate(&hub, &id, &json!({})).await;
    let set = anyone.get(&keys).await.expect(200);
    let [new, former] = array_at(&set, "/keys") else { panic!("two keys: {set}") };
    assert_eq!((bytes_of(former), new["kid"] != former["kid"]), (old.clone(), true));
    let delivery = delivered(&hub, &mut receiver).await;
    assert_eq!(schemes(&delivery), ["v1", "v1", "v1a", "v1a"]);
    assert!(is_signed_by_key(&delivery, &old) && is_signed_by_key(&delivery, &bytes_of(new)));
    assert!(!rotated.to_string().contains("whsk_"), "the private key never leaves the hub");

    hub.send(Method::PATCH, &path, &json!({"signatures": ["v1a"]})).await.expect(200);
    assert_eq!(schemes(&delivered(&hub, &mut receiver).await), ["v1a", "v1a"]);
    hub.delete(&path).await;
    anyone.get(&keys).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn deliveries_carry_x_hook_signature_on_request() {
    let hub = TestHub::start().await;
    let mut receiver = receiver().await;
    let id = hub
        .subscribe(&merged(receiver.subscription_to("n"), json!({"x_hook_signature": true})))
        .await;
    let delivery = delivered(&hub, &mut receiver).await;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let expected = hex(hmac::sign(&key, &delivery.body).as_ref());
    assert_eq!(delivery.header("x-hook-signature"), Some(expected.as_str()));
    assert!(is_signed_by(&delivery, SECRET), "in addition to the usual signature");
    let off = json!({"x_hook_signature": false});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &off).await.expect(200);
    assert_eq!(delivered(&hub, &mut receiver).await.header("x-hook-signature"), None);
}
