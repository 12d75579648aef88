//! The audit log: who changed what, and from which address.

use serde_json::{Value, json};
use sqlx::Executor;

use crate::support::client::{Client, array_at, send_request, string_at};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;

/// The audit entries of one object, oldest first.
async fn history(client: &Client, target: &str) -> Vec<Value> {
    let mut entries = client.list_all(&format!("/v1/audit?target={target}")).await;
    entries.reverse();
    entries
}

fn actions(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| string_at(entry, "/action")).collect()
}

#[tokio::test]
async fn each_subscription_change_is_audited_with_its_actor_and_address() {
    let hub = TestHub::start().await;
    let created = hub.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let (owner, key) =
        (hub.with_key(Some(&string_at(&created, "/key"))), string_at(&created, "/id"));
    let wanted =
        json!({"event_types": ["a"], "callback_url": "http://127.0.0.1:9009/", "timeout_s": 3});
    let id = owner.subscribe(&wanted).await;
    let path = format!("/v1/subscriptions/{id}");
    let change = json!({"timeout_s": 4, "metadata": {"k": "v"}});
    let patched = owner.send(reqwest::Method::PATCH, &path, &change).await;
    hub.post(&format!("{path}/pause"), &json!({})).await.expect(200);
    hub.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    assert_eq!(owner.delete(&path).await.status, 204);

    let entries = history(&hub, &id).await;
    let did = |action: &str| format!("subscription.{action}");
    assert_eq!(actions(&entries), ["created", "updated", "paused", "resumed", "deleted"].map(did));
    let [created, updated, paused, _, deleted] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&created["before"], &created["after"]["timeout_s"]), (&Value::Null, &json!(3)));
    assert_eq!(
        updated["before"],
        json!({"timeout_s": 3, "metadata": {}}),
        "only the changed fields"
    );
    assert_eq!(updated["after"], change);
    assert_eq!(updated["key"], json!(key));
    assert_eq!(updated["address"], json!("127.0.0.1"));
    assert_eq!(updated["request_id"].as_str(), patched.header("x-request-id"));
    assert_eq!(paused["key"], json!("admin"));
    assert_eq!(
        (&paused["before"], &paused["after"]),
        (&json!({"status": "active"}), &json!({"status": "paused"}))
    );
    assert_eq!((&deleted["before"]["id"], &deleted["after"]), (&json!(id), &Value::Null));
}

#[tokio::test]
async fn audit_entries_mask_secrets_and_show_that_they_changed() {
    let hub = TestHub::start().await;
    let planted = ["whsec_UGxhbnRlZFBsYW50ZWRQbGFudGVkUGxhbnRlZA==", "planted-header-value"];
    let id = hub
        .subscribe(&json!({"event_types": ["a"], "callback_url": "http://127.0.0.1:9009/"}))
        .await;
    let change = json!({"secret": planted[0], "headers": {"x-token": planted[1]}});
    hub.send(reqwest::Method::PATCH, &format!("/v1/subscriptions/{id}"), &change).await.expect(200);
    let response = hub.get("/v1/audit").await;
    for secret in planted {
        assert!(!response.body.contains(secret), "{secret}");
    }
    let updated = &history(&hub, &id).await[1];
    assert_eq!(updated["after"]["headers"], json!({"x-token": "***"}));
    let names = |value: &Value| value.as_object().map(serde_json::Map::len);
    assert_eq!(
        (names(&updated["before"]), names(&updated["after"])),
        (Some(2), Some(2)),
        "{updated}"
    );
}

#[tokio::test]
async fn audit_entries_name_the_hub_for_its_own_changes() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::responding(&[410]).await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    hub.publish("a", json!(1)).await;
    let disabled = eventually("the end of the rotation is audited", async || {
        history(&hub, &id)
            .await
            .into_iter()
            .find(|entry| entry["action"] == "subscription.disabled")
    })
    .await;
    assert_eq!(disabled["key"], json!("hub"));
    assert_eq!(disabled["after"]["disabled_reason"], json!("the receiver answered 410 Gone"));
}

#[tokio::test]
async fn seeks_tests_and_replays_are_audited() {
    let hub = TestHub::start().await;
    let pulled = hub.subscribe(&json!({"event_types": ["a"]})).await;
    let event = hub.publish("a", json!(1)).await;
    let path = format!("/v1/subscriptions/{pulled}");
    hub.post(&format!("{path}/seek"), &json!({"cursor": event})).await.expect(200);
    let pushed = hub
        .subscribe(&json!({"event_types": ["a"], "callback_url": "http://127.0.0.1:9009/"}))
        .await;
    let path = format!("/v1/subscriptions/{pushed}");
    hub.post(&format!("{path}/test"), &json!({})).await.expect(202);
    hub.post(&format!("{path}/replay"), &json!({"since": event})).await.expect(202);
    assert_eq!(
        actions(&history(&hub, &pulled).await),
        ["subscription.created", "subscription.sought"]
    );
    assert_eq!(
        actions(&history(&hub, &pushed).await),
        ["subscription.created", "subscription.tested", "replay.requested"]
    );
}

#[tokio::test]
async fn changes_of_a_tenant_are_audited_under_that_tenant_and_visible_only_to_an_admin() {
    let hub = TestHub::start().await;
    let acme = hub.acting_for("acme");
    let created = acme.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let owner = hub.with_key(Some(&string_at(&created, "/key")));
    let id = owner.subscribe(&json!({"event_types": ["a"]})).await;
    owner.get("/v1/audit").await.expect_problem(403, "forbidden");
    assert!(history(&hub, &id).await.is_empty(), "the default tenant has none");
    assert_eq!(actions(&history(&acme, &id).await), ["subscription.created"]);
}

#[tokio::test]
async fn the_audit_log_is_paged_newest_first_and_can_be_filtered() {
    let hub = TestHub::start().await;
    let ids = [
        hub.subscribe(&json!({"event_types": ["a"]})).await,
        hub.subscribe(&json!({"event_types": ["b"]})).await,
    ];
    hub.post(&format!("/v1/subscriptions/{}/pause", ids[0]), &json!({})).await.expect(200);
    let first = hub.get("/v1/audit?limit=2").await;
    assert!(first.header("link").is_some_and(|link| link.contains("rel=\"next\"")));
    let page = first.expect(200);
    assert_eq!(actions(array_at(&page, "/data")), ["subscription.paused", "subscription.created"]);
    let next =
        hub.get(&format!("/v1/audit?limit=2&after={}", string_at(&page, "/next_cursor"))).await;
    assert_eq!(next.expect(200)["data"][0]["target"], json!(ids[0]));
    let paused = hub.list_all("/v1/audit?action=subscription.paused&key=admin").await;
    assert_eq!(paused.len(), 1);
    hub.get("/v1/audit?actor=admin").await.expect_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn audit_entries_cannot_be_changed_or_deleted() {
    let hub = TestHub::start().await;
    hub.subscribe(&json!({"event_types": ["a"]})).await;
    let mut postgres = hub.database.connect().await;
    for statement in ["UPDATE audit SET key = 'x'", "DELETE FROM audit", "TRUNCATE audit"] {
        let refused = postgres.execute(statement).await;
        assert!(refused.is_err_and(|why| why.to_string().contains("append-only")), "{statement}");
    }
    assert_eq!(hub.list_all("/v1/audit").await.len(), 1);
}

#[tokio::test]
async fn the_user_agent_in_an_audit_entry_is_one_short_line() {
    let hub = TestHub::start().await;
    let long = format!("evil\tagent {}", "x".repeat(500));
    let request = hub
        .request(reqwest::Method::POST, "/v1/subscriptions")
        .header("user-agent", long)
        .header("content-type", "application/json")
        .body(json!({"event_types": ["a"]}).to_string());
    send_request(request).await.expect(201);
    let entries = hub.list_all("/v1/audit").await;
    let kept = string_at(&entries[0], "/user_agent");
    assert!(kept.starts_with("evil agent x") && kept.chars().count() <= 121, "{kept}");
}

#[tokio::test]
async fn a_repeated_request_without_effect_is_not_audited() {
    let hub = TestHub::start().await;
    let wanted = json!({"event_types": ["a"]});
    let created = hub.post_idempotent("/v1/subscriptions", "k", &wanted).await.expect(201);
    hub.post_idempotent("/v1/subscriptions", "k", &wanted).await.expect(201);
    let path = format!("/v1/subscriptions/{}", string_at(&created, "/id"));
    hub.send(reqwest::Method::PATCH, &path, &wanted).await.expect(200);
    assert_eq!(actions(&hub.list_all("/v1/audit").await), ["subscription.created"]);
}
