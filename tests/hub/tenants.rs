//! Tenants and their quotas, as the operator sees them.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, send_request, string_at};
use crate::support::follower::{Follower, Transport};
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::waits::wait_for_connections;

const ACME: &str = "/v1/tenants/acme";

/// The quotas of a tenant without explicit values.
fn defaults() -> Value {
    json!({"events_per_s": null, "subscriptions": 10_000, "streams": null, "event_bytes": 262_144})
}

fn none() -> Value {
    json!({"events_per_s": null, "subscriptions": null, "streams": null, "event_bytes": null})
}

async fn put(hub: &Client, path: &str, body: &Value) -> Value {
    let response = hub.send(Method::PUT, path, body).await;
    assert!([200, 201].contains(&response.status), "{}", response.body);
    response.expect(response.status)
}

async fn patch(hub: &Client, body: &Value) -> Value {
    hub.send(Method::PATCH, ACME, body).await.expect(200)
}

#[tokio::test]
async fn explicit_quotas_apply_and_the_others_are_the_hubs_defaults() {
    let hub = TestHub::start().await;
    hub.get(ACME).await.expect_problem(404, "not_found");
    let body =
        json!({"description": "the first", "quotas": {"events_per_s": 100, "streams": null}});
    let response = hub.send(Method::PUT, ACME, &body).await;
    assert_eq!(response.header("location"), Some(ACME));
    let created = response.expect(201);
    assert_eq!((&created["name"], &created["description"]), (&json!("acme"), &json!("the first")));
    assert_eq!(created["quotas"], merged(none(), json!({"events_per_s": 100})));
    assert_eq!(created["in_force"], merged(defaults(), json!({"events_per_s": 100})));
    assert_eq!(created["created_at"], created["updated_at"]);

    let replaced =
        hub.send(Method::PUT, ACME, &json!({"quotas": {"streams": 5}})).await.expect(200);
    assert_eq!(replaced["description"], Value::Null);
    assert_eq!(replaced["quotas"], merged(none(), json!({"streams": 5})));
    assert_eq!(replaced["in_force"], merged(defaults(), json!({"streams": 5})));
    assert_eq!(replaced["created_at"], created["created_at"]);
    let found = hub.get(ACME).await.expect(200);
    assert_eq!(
        found,
        merged(replaced, json!({"use": {"keys": 0, "subscriptions": 0, "streams": 0}}))
    );
}

#[tokio::test]
async fn patching_a_tenant_changes_the_named_quotas_and_null_restores_the_default() {
    let hub = TestHub::start().await;
    let quotas = json!({"events_per_s": 1, "subscriptions": 2, "streams": 3, "event_bytes": 4_096});
    put(&hub, ACME, &json!({"description": "a", "quotas": quotas})).await;
    let changed = patch(&hub, &json!({"quotas": {"streams": 0, "event_bytes": null}})).await;
    let expected = json!({"streams": 0, "event_bytes": null});
    assert_eq!(changed["quotas"], merged(quotas, expected));
    assert_eq!(
        (&changed["description"], &changed["in_force"]["streams"]),
        (&json!("a"), &json!(0))
    );
    assert_eq!(changed["in_force"]["event_bytes"], 262_144);
    let changed = patch(&hub, &json!({"description": null})).await;
    assert_eq!((&changed["description"], &changed["quotas"]["streams"]), (&Value::Null, &json!(0)));
    let changed = patch(&hub, &json!({"quotas": null})).await;
    assert_eq!((&changed["quotas"], &changed["in_force"]), (&none(), &defaults()));
}

#[tokio::test]
async fn concurrent_patches_of_a_tenant_all_apply() {
    let hub = TestHub::start().await;
    let other = TestHub::start_on(&hub.database, |_| ()).await;
    put(&hub, ACME, &json!({})).await;
    let named = ["events_per_s", "subscriptions", "streams", "event_bytes"];
    let patches =
        named.iter().zip([&hub, &other].into_iter().cycle()).map(|(name, hub)| async move {
            patch(hub, &json!({"quotas": {*name: 2_000}})).await;
        });
    join_all(patches).await;
    let found = hub.get(ACME).await.expect(200);
    assert!(named.iter().all(|name| found["quotas"][name] == 2_000), "{found}");
}

#[tokio::test]
async fn a_tenant_with_objects_is_listed_without_being_created() {
    let hub = TestHub::start().await;
    let acme = hub.acting_for("acme");
    let key = acme.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let receiver = TestReceiver::start().await;
    let subscription = acme.subscribe(&receiver.subscription_to("a")).await;
    hub.acting_for("Other").subscribe(&json!({"event_types": ["a"]})).await;
    let stream = Follower::from_earliest(&acme, Transport::Sse).await;
    wait_for_connections(&acme, 1).await;

    let found = hub.get(ACME).await.expect(200);
    assert_eq!(found["use"], json!({"keys": 1, "subscriptions": 1, "streams": 1}));
    assert_eq!((&found["quotas"], &found["in_force"]), (&none(), &defaults()));
    assert_eq!((&found["created_at"], &found["description"]), (&Value::Null, &Value::Null));
    let listed = hub.list_all("/v1/tenants").await;
    let mut names: Vec<_> = listed.iter().map(|tenant| string_at(tenant, "/name")).collect();
    names.sort();
    assert_eq!(names, ["Other", "acme"]);

    let changed = patch(&hub, &json!({"description": "known by its key"})).await;
    assert_eq!(changed["quotas"], none());
    drop(stream);
    wait_for_connections(&acme, 0).await;
    acme.delete(&format!("/v1/subscriptions/{subscription}")).await.expect(204);
    acme.delete(&format!("/v1/keys/{}", string_at(&key, "/id"))).await.expect(204);
    let found = hub.get(ACME).await.expect(200);
    assert_eq!(found["use"], json!({"keys": 0, "subscriptions": 0, "streams": 0}));
    hub.send(Method::PATCH, "/v1/tenants/unheard", &json!({}))
        .await
        .expect_problem(404, "not_found");
}

#[tokio::test]
async fn only_a_tenant_without_objects_can_be_deleted() {
    let hub = TestHub::start().await;
    let acme = hub.acting_for("acme");
    put(&hub, ACME, &json!({"quotas": {"subscriptions": 1}})).await;
    let id = acme.subscribe(&json!({"event_types": ["a"]})).await;
    let event = acme.publish("a", json!(1)).await;
    hub.delete(ACME).await.expect_problem(409, "tenant_in_use");
    assert_eq!(hub.get(ACME).await.expect(200)["in_force"]["subscriptions"], 1);

    acme.delete(&format!("/v1/subscriptions/{id}")).await.expect(204);
    hub.delete(ACME).await.expect(204);
    hub.delete(ACME).await.expect(204);
    hub.get(ACME).await.expect_problem(404, "not_found");
    assert!(hub.list_all("/v1/tenants").await.is_empty());
    hub.delete("/v1/tenants/unheard").await.expect_problem(404, "not_found");
    acme.get(&format!("/v1/events/{event}")).await.expect(200);
    for _ in 0..2 {
        acme.subscribe(&json!({"event_types": ["a"]})).await;
    }
    assert_eq!(put(&hub, ACME, &json!({})).await["in_force"], defaults());
}

#[tokio::test]
async fn pages_of_tenants_list_each_tenant_once() {
    let hub = TestHub::start().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let name = format!("tenant-{n}");
        if n % 2 == 0 {
            put(&hub, &format!("/v1/tenants/{name}"), &json!({"description": name})).await;
        }
        if n % 3 != 0 || n % 2 == 1 {
            let tenant = hub.acting_for(&name);
            tenant.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
            tenant.subscribe(&json!({"event_types": ["a"]})).await;
        }
        expected.push(name);
    }
    let (mut names, mut path) = (Vec::new(), "/v1/tenants?limit=3".to_owned());
    loop {
        let page = hub.get(&path).await;
        let link = page.header("link").map(ToOwned::to_owned);
        let page = page.expect(200);
        names.extend(array_at(&page, "/data").iter().map(|tenant| string_at(tenant, "/name")));
        assert_eq!(link.is_some(), page["has_more"] == true);
        let Some(link) = link else { break };
        path = link.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
    }
    assert_eq!(names, expected);
    let page = hub.get("/v1/tenants?after=tenant-3&limit=1").await.expect(200);
    assert_eq!(
        (&page["data"][0]["description"], &page["next_cursor"]),
        (&json!("tenant-4"), &json!("tenant-4"))
    );
    hub.get("/v1/tenants?after=a%20b").await.expect_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn an_invalid_tenant_is_refused_with_the_field() {
    let hub = TestHub::start().await;
    for (body, pointer) in [
        (json!({"quota": {}}), "/quota"),
        (json!({"description": 1}), "/description"),
        (json!({"description": "x".repeat(1_001)}), "/description"),
        (json!({"quotas": []}), "/quotas"),
        (json!({"quotas": {"events": 1}}), "/quotas/events"),
        (json!({"quotas": {"events_per_s": -1}}), "/quotas/events_per_s"),
        (json!({"quotas": {"events_per_s": 1.5}}), "/quotas/events_per_s"),
        (json!({"quotas": {"subscriptions": 1_000_001}}), "/quotas/subscriptions"),
        (json!({"quotas": {"streams": "7"}}), "/quotas/streams"),
        (json!({"quotas": {"event_bytes": 1_023}}), "/quotas/event_bytes"),
        (json!({"quotas": {"event_bytes": 4_194_305}}), "/quotas/event_bytes"),
    ] {
        hub.send(Method::PUT, ACME, &body).await.expect_invalid(pointer);
    }
    hub.get(ACME).await.expect_problem(404, "not_found");
    for name in ["a%20b", "a%2Fb", &"x".repeat(65)] {
        let path = format!("/v1/tenants/{name}");
        hub.send(Method::PUT, &path, &json!({})).await.expect_problem(400, "invalid_parameter");
        hub.get(&path).await.expect_problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn only_the_operator_sees_or_changes_tenants() {
    let hub = TestHub::start().await;
    put(&hub, ACME, &json!({"quotas": {"streams": 1}})).await;
    let key = hub.acting_for("acme").post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let acme = hub.with_key(Some(&string_at(&key, "/key")));
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        let body = json!({"quotas": {"streams": 100}});
        acme.send(method.clone(), ACME, &body).await.expect_problem(403, "forbidden");
        hub.with_key(None).send(method, ACME, &body).await.expect_problem(401, "unauthorized");
    }
    acme.get("/v1/tenants").await.expect_problem(403, "forbidden");
    assert_eq!(hub.get(ACME).await.expect(200)["quotas"]["streams"], 1);
    let refusal = send_request(hub.request(Method::POST, ACME)).await;
    refusal.expect_problem(405, "method_not_allowed");
}
