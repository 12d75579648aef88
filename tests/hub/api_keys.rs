//! API keys and tenants: permissions, and no access to objects of another tenant.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, merged, string_at};
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;

/// Creates a key of a tenant; returns the response and a client that uses the key.
async fn key_of(hub: &TestHub, tenant: &str) -> (Value, Client) {
    let created = hub.acting_for(tenant).post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let client = hub.with_key(Some(&string_at(&created, "/key")));
    (created, client)
}

#[tokio::test]
async fn requests_without_a_valid_key_are_refused() {
    let hub = TestHub::start().await;
    for stranger in [hub.with_key(None), hub.with_key(Some("wrong")), hub.with_key(Some("hh_AAAA"))]
    {
        for (method, path) in [
            (Method::GET, "/v1/events"),
            (Method::POST, "/v1/events"),
            (Method::GET, "/v1/subscriptions"),
            (Method::POST, "/v1/subscriptions"),
            (Method::DELETE, "/v1/subscriptions/sub_0000000000000"),
            (Method::GET, "/v1/attempts"),
            (Method::GET, "/v1/keys"),
            (Method::POST, "/v1/keys"),
        ] {
            let response = stranger.send(method, path, &json!({"type": "a", "data": 1})).await;
            response.expect_problem(401, "unauthorized");
            assert!(
                response
                    .header("www-authenticate")
                    .is_some_and(|scheme| scheme.starts_with("Bearer"))
            );
        }
    }
    assert!(hub.list_all("/v1/events").await.is_empty());
}

#[tokio::test]
async fn a_key_is_shown_only_at_creation() {
    let hub = TestHub::start().await;
    let (created, client) = key_of(&hub, "acme").await;
    assert!(
        string_at(&created, "/key").starts_with("hh_")
            && string_at(&created, "/id").starts_with("key_")
    );
    assert_eq!((&created["name"], &created["tenant"]), (&json!("ci"), &json!("acme")));
    client.publish("a", json!(1)).await;

    let listed = hub.acting_for("acme").get("/v1/keys").await;
    assert!(!listed.body.contains(&string_at(&created, "/key")));
    assert_eq!(listed.expect(200)["data"][0]["id"], created["id"]);
    assert!(hub.list_all("/v1/keys").await.is_empty(), "the default tenant has none");
}

#[tokio::test]
async fn a_revoked_key_gets_401() {
    let hub = TestHub::start().await;
    let (created, client) = key_of(&hub, "acme").await;
    client.get("/v1/events").await.expect(200);
    let path = format!("/v1/keys/{}", string_at(&created, "/id"));
    hub.delete(&path).await.expect_problem(404, "not_found");
    assert_eq!(hub.acting_for("acme").delete(&path).await.status, 204);
    client.get("/v1/events").await.expect_problem(401, "unauthorized");
    assert!(hub.acting_for("acme").list_all("/v1/keys").await.is_empty());
}

#[tokio::test]
async fn a_tenant_key_creates_no_keys_and_acts_for_no_other_tenant() {
    let hub = TestHub::start().await;
    let (created, client) = key_of(&hub, "acme").await;
    client.get("/v1/keys").await.expect_problem(403, "forbidden");
    client.post("/v1/keys", &json!({"name": "x"})).await.expect_problem(403, "forbidden");
    client
        .delete(&format!("/v1/keys/{}", string_at(&created, "/id")))
        .await
        .expect_problem(403, "forbidden");
    client.acting_for("other").get("/v1/events").await.expect_problem(403, "forbidden");
    client.acting_for("acme").get("/v1/events").await.expect(200);
}

#[tokio::test]
async fn objects_of_one_tenant_are_invisible_to_another() {
    let hub = TestHub::start().await;
    let ((_, acme), (_, other)) = (key_of(&hub, "acme").await, key_of(&hub, "other").await);
    let (mut mine, mut theirs) = (TestReceiver::start().await, TestReceiver::start().await);
    let subscription = acme.subscribe(&mine.subscription_to("*")).await;
    other.subscribe(&theirs.subscription_to("*")).await;
    let event = acme.publish("a", json!("of acme")).await;
    assert_eq!(mine.next().await.id, event);

    for path in [
        format!("/v1/events/{event}"),
        format!("/v1/events/{event}/deliveries"),
        format!("/v1/subscriptions/{subscription}"),
        format!("/v1/subscriptions/{subscription}/deliveries"),
    ] {
        other.get(&path).await.expect_problem(404, "not_found");
        hub.get(&path).await.expect_problem(404, "not_found");
        acme.get(&path).await.expect(200);
        hub.acting_for("acme").get(&path).await.expect(200);
    }
    let path = format!("/v1/subscriptions/{subscription}");
    other.delete(&path).await.expect_problem(404, "not_found");
    other
        .send(Method::PATCH, &path, &json!({"description": "mine"}))
        .await
        .expect_problem(404, "not_found");
    for action in ["pause", "resume", "test"] {
        other.post(&format!("{path}/{action}"), &json!({})).await.expect_problem(404, "not_found");
    }
    other
        .post(&format!("/v1/deliveries/{subscription}/{event}/retry"), &json!({}))
        .await
        .expect_problem(404, "not_found");
    assert!(other.list_all("/v1/events").await.is_empty());
    assert!(other.list_all(&format!("/v1/attempts?subscription={subscription}")).await.is_empty());
    assert!(other.list_all(&format!("/v1/attempts?event={event}")).await.is_empty());

    let sentinel = other.publish("a", json!("of other")).await;
    assert_eq!(theirs.next().await.id, sentinel);
    assert!(theirs.drain().is_empty());
    assert_eq!(acme.subscription(&subscription).await["status"], "active");
}

#[tokio::test]
async fn a_request_without_a_required_tenant_is_refused() {
    let hub = TestHub::start().await;
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        hub.acting_for(name).get("/v1/events").await.expect_problem(400, "invalid_header");
    }
    hub.post("/v1/keys", &json!({})).await.expect_invalid("/name");
    hub.post("/v1/keys", &json!({"name": "a", "tenant": "b"})).await.expect_invalid("/tenant");
}

#[tokio::test]
async fn a_key_lists_its_scopes_event_types_and_expiry() {
    let hub = TestHub::start().await;
    let created = hub.post("/v1/keys", &json!({"name": "all"})).await;
    let whole = created.expect(201);
    assert_eq!(whole["scopes"], json!(["publish", "subscribe", "read", "stream"]));
    assert_eq!(
        (&whole["event_types"], &whole["expires_at"], &whole["last_used_at"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let wanted = json!({
        "name": "some", "scopes": ["stream", "read"], "event_types": ["order.*", "hookhub.gap"],
        "expires_at": "2034-05-06T07:08:09.010Z",
    });
    let created = hub.post("/v1/keys", &wanted).await;
    let some = created.expect(201);
    assert_eq!(created.header("location"), Some(&*format!("/v1/keys/{}", string_at(&some, "/id"))));
    assert_eq!(some["scopes"], json!(["read", "stream"]));
    assert_eq!(some["event_types"], wanted["event_types"]);
    assert_eq!(some["expires_at"], wanted["expires_at"]);
    let shown = hub.get(&format!("/v1/keys/{}", string_at(&some, "/id"))).await.expect(200);
    assert_eq!(merged(shown.clone(), json!({"key": some["key"]})), some);
    assert_eq!(hub.list_all("/v1/keys").await[1], shown);
    hub.acting_for("b").get("/v1/keys/key_x").await.expect_problem(404, "not_found");
    let elsewhere = format!("/v1/keys/{}", string_at(&some, "/id"));
    hub.acting_for("b").get(&elsewhere).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_invalid_key_request_is_refused_with_the_field() {
    let hub = TestHub::start().await;
    for (more, pointer) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": 1}), "/name"),
        (json!({"scopes": []}), "/scopes"),
        (json!({"scopes": ["read", "write"]}), "/scopes/1"),
        (json!({"event_types": []}), "/event_types"),
        (json!({"event_types": ["a", "b..c"]}), "/event_types/1"),
        (json!({"event_types": vec!["a"; 101]}), "/event_types"),
        (json!({"event_types": ["a"], "scopes": ["admin"]}), "/event_types"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"expires_at": "tomorrow"}), "/expires_at"),
        (json!({"expires_in_s": 0}), "/expires_in_s"),
        (json!({"expires_in_s": 60, "expires_at": "2034-01-01T00:00:00Z"}), "/expires_in_s"),
        (json!({"key": "hh_mine"}), "/key"),
    ] {
        let wanted = merged(json!({"name": "ci"}), more);
        hub.post("/v1/keys", &wanted).await.expect_invalid(pointer);
    }
    assert!(hub.list_all("/v1/keys").await.is_empty());
}

#[tokio::test]
async fn the_last_use_of_a_key_is_recorded() {
    let hub = TestHub::start().await;
    let (used, client) = key_of(&hub, "acme").await;
    let (_, _) = key_of(&hub, "acme").await;
    client.publish("a", json!(1)).await;
    let hub = TestHub::start_on(&hub.stop().await, |_| ()).await;
    let keys = hub.acting_for("acme").list_all("/v1/keys").await;
    assert_eq!(keys[0]["id"], used["id"]);
    assert!(string_at(&keys[0], "/last_used_at") >= string_at(&keys[0], "/created_at"));
    assert_eq!(keys[1]["last_used_at"], Value::Null);
}

#[tokio::test]
async fn a_created_admin_key_works_like_the_configured_one_until_it_is_revoked() {
    let hub = TestHub::start().await;
    let wanted = json!({"name": "operator", "scopes": ["admin"]});
    let created = hub.acting_for("ops").post("/v1/keys", &wanted).await.expect(201);
    let operator = hub.with_key(Some(&string_at(&created, "/key")));
    let (of_acme, acme) = key_of(&hub, "acme").await;
    let event = operator.acting_for("acme").publish("a", json!(1)).await;
    acme.get(&format!("/v1/events/{event}")).await.expect(200);
    let own = operator.publish("a", json!(1)).await;
    hub.acting_for("ops").get(&format!("/v1/events/{own}")).await.expect(200);
    assert_eq!(
        operator.list_all("/v1/keys").await.len(),
        1,
        "its own tenant, unless the request names another"
    );
    let path = format!("/v1/keys/{}", string_at(&of_acme, "/id"));
    assert_eq!(operator.acting_for("acme").delete(&path).await.status, 204);
    operator.get("/v1/nodes").await.expect(200);
    let entries = hub.acting_for("acme").list_all("/v1/audit?action=key.revoked").await;
    assert_eq!(entries[0]["key"], created["id"]);

    let path = format!("/v1/keys/{}", string_at(&created, "/id"));
    assert_eq!(operator.delete(&path).await.status, 204, "the key revokes itself too");
    operator.get("/v1/nodes").await.expect_problem(401, "unauthorized");
}
