//! The subscription resource: create, read, change, delete, and invalid requests.

use hookhub::domain::egress::policy::AllowedTargets;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::hub::TestHub;
use crate::support::receiver::{SECRET, TestReceiver};

const PATH: &str = "/v1/subscriptions";

fn to_example(path: &str) -> Value {
    json!({"event_types": ["order.*", "invoice.paid"], "callback_url": format!("https://example.com/{path}")})
}

async fn ids(hub: &Client, query: &str) -> Vec<String> {
    hub.list_all(&format!("{PATH}{query}")).await.iter().map(|one| string_at(one, "/id")).collect()
}

#[tokio::test]
async fn a_new_subscription_is_returned_whole_with_its_secret_shown_once() {
    let hub = TestHub::start().await;
    let definition = json!({
        "event_types": ["order.*"], "callback_url": "https://example.com/a//b/?q=%20", "description": "for the shop",
        "metadata": {"team": "billing"}, "headers": {"x-shop": "7"}, "ordered": true, "max_in_flight": 3,
        "timeout_s": 9, "retry_schedule_s": [1, 2], "give_up_after_s": 100,
    });
    let response = hub.post(PATH, &definition).await;
    let created = response.expect(201);
    let id = string_at(&created, "/id");
    assert!(id.starts_with("sub_"));
    assert_eq!(response.header("location"), Some(format!("{PATH}/{id}").as_str()));
    assert!(string_at(&created, "/secret").starts_with("whsec_"));
    assert_eq!(created["status"], "active");
    let shown = merged(definition, json!({"headers": {"x-shop": "***"}}));
    for (name, value) in shown.as_object().unwrap() {
        assert_eq!(&created[name], value, "{name}; values of headers are often secrets");
    }

    let read = hub.subscription(&id).await;
    assert_eq!(read.get("secret"), None, "the secret is shown only at creation");
    assert_eq!(merged(read, json!({"secret": created["secret"]})), created);
    let listed = hub.get(PATH).await;
    assert!(!listed.body.contains("whsec_"), "{}", listed.body);
}

#[tokio::test]
async fn omitted_subscription_fields_get_defaults() {
    let hub = TestHub::start().await;
    let created = hub.post(PATH, &to_example("hooks")).await.expect(201);
    assert_eq!((&created["ordered"], &created["metadata"]), (&json!(false), &json!({})));
    assert_eq!(created["timeout_s"], 15);
    assert_eq!(created["description"], Value::Null);
    let other = hub.post(PATH, &to_example("hooks")).await.expect(201);
    assert_ne!(created["secret"], other["secret"]);
}

#[tokio::test]
async fn a_secret_chosen_by_the_owner_is_accepted() {
    let hub = TestHub::start().await;
    let created =
        hub.post(PATH, &merged(to_example("hooks"), json!({"secret": SECRET}))).await.expect(201);
    assert_eq!(created["secret"], SECRET);
}

#[tokio::test]
async fn field_names_of_other_rest_hooks_apis_are_accepted() {
    let hub = TestHub::start().await;
    for definition in [
        json!({"target_url": "https://example.com/z", "event": "order.paid"}),
        json!({"hookUrl": "https://example.com/z", "event": "order.paid"}),
        json!({"hookUrl": "https://example.com/z", "event_types": ["order.paid"]}),
    ] {
        let created = hub.post(PATH, &definition).await.expect(201);
        assert_eq!(created["callback_url"], "https://example.com/z");
        assert_eq!(created["event_types"], json!(["order.paid"]));
        assert_eq!(created.get("hookUrl"), None);
    }
}

#[tokio::test]
async fn an_invalid_subscription_is_refused_with_the_field() {
    let hub = TestHub::start().await;
    for (fault, pointer) in [
        (json!({"event_types": []}), "/event_types"),
        (json!({"event_types": ["order..paid"]}), "/event_types/0"),
        (json!({"event_types": ["a", "b*"]}), "/event_types/1"),
        (json!({"event_types": "order.paid"}), "/event_types"),
        (json!({"callback_url": "example.com/hooks"}), "/callback_url"),
        (json!({"callback_url": "ftp://example.com/"}), "/callback_url"),
        (json!({"callback_url": "https://user:pw@example.com/"}), "/callback_url"),
        (json!({"callback_url": 7}), "/callback_url"),
        (json!({"secret": "whsec_c2hvcnQ="}), "/secret"),
        (json!({"secret": "hunter2"}), "/secret"),
        (json!({"max_in_flight": 0}), "/max_in_flight"),
        (json!({"max_in_flight": 65}), "/max_in_flight"),
        (json!({"timeout_s": 0}), "/timeout_s"),
        (json!({"timeout_s": 31}), "/timeout_s"),
        (json!({"timeout_s": "5"}), "/timeout_s"),
        (json!({"ordered": "yes"}), "/ordered"),
        (json!({"retry_schedule_s": []}), "/retry_schedule_s"),
        (json!({"from": "the beginning"}), "/from"),
        (json!({"headers": {"bad name": "x"}}), "/headers/bad name"),
        (json!({"headers": {"x-a": "line\nbreak"}}), "/headers/x-a"),
        (json!({"headers": {"webhook-id": "mine"}}), "/headers/webhook-id"),
        (json!({"headers": {"content-length": "1"}}), "/headers/content-length"),
        (json!({"metadata": {"a": {"b": 1}}}), "/metadata/a"),
        (json!({"event_kinds": ["a"]}), "/event_kinds"),
        (json!({"status": "active"}), "/status"),
    ] {
        let refusal = hub.post(PATH, &merged(to_example("hooks"), fault.clone())).await;
        assert_eq!(refusal.status, 422, "{fault}: {}", refusal.body);
        refusal.expect_invalid(pointer);
    }
    hub.post(PATH, &json!({"callback_url": "https://example.com/"}))
        .await
        .expect_invalid("/event_types");
    assert!(ids(&hub, "").await.is_empty());
}

#[tokio::test]
async fn a_private_callback_address_is_refused_unless_the_operator_allows_it() {
    let hub = TestHub::start().await;
    for private in [
        "http://10.0.0.1/",
        "http://192.168.1.1:8080/hooks",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
    ] {
        hub.post(PATH, &merged(to_example(""), json!({"callback_url": private})))
            .await
            .expect_invalid("/callback_url");
    }
    let id = hub
        .subscribe(&merged(to_example(""), json!({"callback_url": "http://127.0.0.1:9009/"})))
        .await;
    let change = json!({"callback_url": "http://10.0.0.1/"});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect_invalid("/callback_url");

    let strict =
        TestHub::start_with(|settings| settings.egress.targets.allow = AllowedTargets::default())
            .await;
    for local in
        ["http://127.0.0.1:9009/", "http://localhost:9/", "http://2130706433/", "http://0x7f.1/"]
    {
        strict
            .post(PATH, &merged(to_example(""), json!({"callback_url": local})))
            .await
            .expect_invalid("/callback_url");
    }
}

#[tokio::test]
async fn patch_changes_the_named_fields_and_put_changes_all_fields() {
    let hub = TestHub::start().await;
    let created = hub
        .post(PATH, &merged(to_example("a"), json!({"description": "d", "max_in_flight": 3})))
        .await
        .expect(201);
    let path = format!("{PATH}/{}", string_at(&created, "/id"));

    let patched = hub
        .send(Method::PATCH, &path, &json!({"event_types": ["x.*"], "metadata": {"k": "v"}}))
        .await
        .expect(200);
    assert_eq!(patched["event_types"], json!(["x.*"]));
    assert_eq!((&patched["description"], &patched["max_in_flight"]), (&json!("d"), &json!(3)));
    assert_eq!(hub.get(&path).await.expect(200), patched);

    let put = hub.send(Method::PUT, &path, &to_example("b")).await.expect(200);
    assert_eq!(put["callback_url"], "https://example.com/b");
    assert_eq!((&put["description"], &put["metadata"]), (&Value::Null, &json!({})));
    assert_eq!(put["id"], created["id"]);

    hub.send(Method::PATCH, &path, &json!({"colour": "red"})).await.expect_invalid("/colour");
    hub.send(Method::PATCH, &path, &json!({"event_types": ["b*"]}))
        .await
        .expect_invalid("/event_types/0");
    assert_eq!(hub.get(&path).await.expect(200), put, "a refused change has no effect");
}

#[tokio::test]
async fn subscriptions_are_listed_page_by_page_and_can_be_filtered() {
    let hub = TestHub::start().await;
    let mut created = Vec::new();
    for n in 0..5 {
        created.push(hub.subscribe(&to_example(&n.to_string())).await);
    }
    hub.post(&format!("{PATH}/{}/pause", created[1]), &json!({})).await.expect(200);

    let page = hub.get(&format!("{PATH}?limit=2")).await;
    let first = page.expect(200);
    assert_eq!((array_at(&first, "/data").len(), &first["has_more"]), (2, &json!(true)));
    let link = page.header("link").unwrap();
    assert!(
        link.contains("rel=\"next\"") && link.contains(&string_at(&first, "/next_cursor")),
        "{link}"
    );
    let last = hub.get(&format!("{PATH}?limit=5")).await.expect(200);
    assert_eq!((&last["has_more"], &last["next_cursor"]), (&json!(false), &Value::Null));
    let mut through = Vec::new();
    let mut next = first;
    loop {
        through.extend(array_at(&next, "/data").iter().map(|one| string_at(one, "/id")));
        if next["has_more"] == false {
            break;
        }
        next = hub
            .get(&format!("{PATH}?limit=2&after={}", string_at(&next, "/next_cursor")))
            .await
            .expect(200);
    }
    assert_eq!(through, created);

    assert_eq!(ids(&hub, "?status=paused").await, [created[1].clone()]);
    assert_eq!(ids(&hub, "?callback_url=https://example.com/3").await, [created[3].clone()]);
    assert_eq!(ids(&hub, "?event_type=invoice.paid").await.len(), 5);
    assert!(ids(&hub, "?event_type=other").await.is_empty());
}

#[tokio::test]
async fn deleting_a_subscription_twice_succeeds() {
    let hub = TestHub::start().await;
    let path = format!("{PATH}/{}", hub.subscribe(&to_example("a")).await);
    assert_eq!(hub.delete(&path).await.status, 204);
    assert_eq!(hub.delete(&path).await.status, 204);
    hub.get(&path).await.expect_problem(404, "not_found");
    hub.send(Method::PATCH, &path, &json!({"description": "x"}))
        .await
        .expect_problem(404, "not_found");
    hub.post(&format!("{path}/pause"), &json!({})).await.expect_problem(404, "not_found");
    assert!(ids(&hub, "").await.is_empty());
}

#[tokio::test]
async fn a_subscription_can_be_deleted_by_request_body() {
    let hub = TestHub::start().await;
    let (a, b, c) = (
        hub.subscribe(&to_example("a")).await,
        hub.subscribe(&to_example("b")).await,
        hub.subscribe(&to_example("c")).await,
    );
    assert_eq!(hub.send(Method::DELETE, PATH, &json!({"id": a})).await.status, 204);
    let by_url = json!({"hookUrl": "https://example.com/b"});
    assert_eq!(hub.send(Method::DELETE, PATH, &by_url).await.status, 204);
    assert_eq!(hub.send(Method::DELETE, PATH, &by_url).await.status, 204);
    hub.send(Method::DELETE, PATH, &json!({})).await.expect_problem(422, "validation_failed");
    assert_eq!(ids(&hub, "").await, [c], "{b} too is gone");
}

#[tokio::test]
async fn pause_and_resume_are_visible_and_idempotent() {
    let hub = TestHub::start().await;
    let path = format!("{PATH}/{}", hub.subscribe(&to_example("a")).await);
    for (action, status) in
        [("pause", "paused"), ("pause", "paused"), ("resume", "active"), ("resume", "active")]
    {
        assert_eq!(
            hub.post(&format!("{path}/{action}"), &json!({})).await.expect(200)["status"],
            status
        );
        assert_eq!(hub.get(&path).await.expect(200)["status"], status);
    }
}

#[tokio::test]
async fn a_repeated_creation_creates_one_subscription() {
    let hub = TestHub::start().await;
    let first = hub.post_idempotent(PATH, "create-1", &to_example("a")).await;
    let again = hub.post_idempotent(PATH, "create-1", &to_example("a")).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201), first.expect(201));
    hub.post_idempotent(PATH, "create-1", &to_example("b"))
        .await
        .expect_problem(422, "idempotency_key_reused");
    assert_eq!(ids(&hub, "").await.len(), 1);
}

#[tokio::test]
async fn each_subscription_change_is_an_event_for_subscribers_of_hookhub_events() {
    let hub = TestHub::start().await;
    let mut watcher = TestReceiver::start().await;
    hub.subscribe(&watcher.subscription_to("hookhub.subscription.*")).await;
    let id = hub.subscribe(&merged(to_example("a"), json!({"secret": SECRET}))).await;
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &json!({"description": "x"}))
        .await
        .expect(200);
    hub.delete(&format!("{PATH}/{id}")).await;

    let mut types = Vec::new();
    for delivery in watcher.take(3).await {
        let event: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert!(!event.to_string().contains(SECRET), "{event}");
        types.push(string_at(&event, "/type"));
    }
    types.sort_unstable();
    assert_eq!(
        types,
        ["created", "deleted", "updated"].map(|what| format!("hookhub.subscription.{what}"))
    );
    assert!(hub.list_all("/v1/events").await.is_empty(), "other tenants do not see them");
    assert_eq!(hub.list_all("/v1/events?types=hookhub.subscription.*").await.len(), 4);
}

#[tokio::test]
async fn an_invalid_unsubscribe_url_deletes_no_subscription() {
    let hub = TestHub::start().await;
    hub.subscribe(&json!({"event_types": ["a"]})).await;
    for given in ["a\u{0}", ""] {
        let body = json!({"callback_url": given});
        let response = hub.send(Method::DELETE, "/v1/subscriptions", &body).await;
        assert!([204, 422].contains(&response.status), "{given:?}: {}", response.body);
    }
    assert_eq!(hub.list_all("/v1/subscriptions").await.len(), 1);
}
