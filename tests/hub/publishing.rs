//! Publishing: single events, batches, repeats, and refused requests.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{array_at, string_at};
use crate::support::hub::TestHub;

const EVENTS: &str = "/v1/events";

#[tokio::test]
async fn an_event_is_returned_with_the_bytes_it_was_published_with() {
    let hub = TestHub::start().await;
    let data = r#"{ "z": 1.0e400,  "a": "\u00e9é", "a": [1, 2.50] }"#;
    let body = format!(r#"{{"type": "order.paid", "data": {data}}}"#);
    let accepted = hub.send_text(Method::POST, EVENTS, "application/json", &body).await.expect(202);
    let (id, timestamp) = (string_at(&accepted, "/id"), string_at(&accepted, "/timestamp"));
    assert_eq!(accepted["type"], "order.paid");

    let expected =
        format!(r#"{{"id":"{id}","type":"order.paid","timestamp":"{timestamp}","data":{data}}}"#);
    let event = hub.get(&format!("/v1/events/{id}")).await;
    assert_eq!((event.status, &event.body), (200, &expected));
    let list = hub.get(EVENTS).await;
    assert_eq!(list.status, 200);
    assert!(list.body.contains(&expected), "{}", list.body);
}

#[tokio::test]
async fn the_publishers_time_is_kept_in_utc_to_the_millisecond() {
    let hub = TestHub::start().await;
    let event =
        json!({"type": "order.paid", "timestamp": "2020-02-29T23:30:00.1239-01:00", "data": null});
    let accepted = hub.post(EVENTS, &event).await.expect(202);
    assert_eq!(accepted["timestamp"], "2020-03-01T00:30:00.123Z");
    let read = hub.get(&format!("/v1/events/{}", string_at(&accepted, "/id"))).await.expect(200);
    assert_eq!(read["timestamp"], "2020-03-01T00:30:00.123Z");
}

#[tokio::test]
async fn a_batch_is_answered_and_logged_in_its_order() {
    let hub = TestHub::start().await;
    let events: Vec<_> = (0..1_000).map(|n| json!({"type": format!("n.{n}"), "data": n})).collect();
    let response = hub.post(EVENTS, &Value::from(events)).await.expect(202);
    let items = array_at(&response, "/data");
    let ids: Vec<_> = items.iter().map(|item| string_at(item, "/id")).collect();
    assert!(ids.is_sorted() && ids.len() == 1_000);
    assert!(items.iter().enumerate().all(|(n, item)| item["type"] == format!("n.{n}")));

    let listed = hub.list_all("/v1/events?types=n.*").await;
    assert_eq!(listed.iter().map(|event| string_at(event, "/id")).collect::<Vec<_>>(), ids);
    assert!(listed.iter().enumerate().all(|(n, event)| event["data"] == n));
}

#[tokio::test]
async fn a_batch_can_be_ndjson() {
    let hub = TestHub::start().await;
    let lines = "{\"type\": \"a\", \"data\": 1}\r\n\n{\"type\": \"b\", \"data\": 2}";
    let response =
        hub.send_text(Method::POST, EVENTS, "application/x-ndjson", lines).await.expect(202);
    let types: Vec<_> =
        array_at(&response, "/data").iter().map(|item| string_at(item, "/type")).collect();
    assert_eq!(types, ["a", "b"]);
}

#[tokio::test]
async fn an_invalid_item_does_not_stop_the_valid_items() {
    let hub = TestHub::start_with(|settings| settings.quotas.event_bytes = 100).await;
    let batch = json!([
        {"type": "good.1", "data": 1},
        {"type": "not a type", "data": 2},
        {"type": "no.data"},
        {"type": "unknown.field", "data": 4, "colour": "red"},
        "no object",
        {"type": "too.large", "data": "x".repeat(100)},
        {"type": "hookhub.test", "data": 7},
        {"type": "good.2", "data": 8},
    ]);
    let response = hub.post(EVENTS, &batch).await.expect(202);
    let items = array_at(&response, "/data");
    let codes: Vec<_> =
        items.iter().map(|item| item.pointer("/error/code").and_then(Value::as_str)).collect();
    let invalid = Some("validation_failed");
    assert_eq!(
        codes,
        [None, invalid, invalid, invalid, invalid, Some("payload_too_large"), invalid, None]
    );
    assert_eq!(items[1].pointer("/error/errors/0/pointer"), Some(&json!("/type")));
    assert_eq!(items[3].pointer("/error/errors/0/pointer"), Some(&json!("/colour")));

    let published: HashSet<_> =
        hub.list_all(EVENTS).await.iter().map(|event| string_at(event, "/type")).collect();
    assert_eq!(published, HashSet::from(["good.1".to_owned(), "good.2".to_owned()]));
}

#[tokio::test]
async fn an_ndjson_line_that_is_not_json_is_an_invalid_item() {
    let hub = TestHub::start().await;
    let lines = "{\"type\": \"a\", \"data\": 1}\n{\"type\": \n{\"type\": \"b\", \"data\": 2}\n";
    let response =
        hub.send_text(Method::POST, EVENTS, "application/x-ndjson", lines).await.expect(202);
    assert_eq!(array_at(&response, "/data").len(), 3);
    assert!(
        response.pointer("/data/0/id").is_some() && response.pointer("/data/2/id").is_some(),
        "{response}"
    );
    assert!(response.pointer("/data/1/error/code").is_some(), "{response}");
}

#[tokio::test]
async fn a_batch_over_a_thousand_events_is_refused_whole() {
    let hub = TestHub::start().await;
    let events: Vec<_> = (0..1_001).map(|n| json!({"type": "n", "data": n})).collect();
    let problem =
        hub.post(EVENTS, &Value::from(events)).await.expect_problem(413, "payload_too_large");
    assert!(string_at(&problem, "/detail").replace([',', '_'], "").contains("1000"), "{problem}");
    assert!(hub.list_all(EVENTS).await.is_empty());
}

#[tokio::test]
async fn data_over_the_limit_is_refused_with_the_limit() {
    let hub = TestHub::start_with(|settings| settings.quotas.event_bytes = 1_000).await;
    let fits = json!({"type": "a", "data": "x".repeat(998)});
    hub.post(EVENTS, &fits).await.expect(202);
    let too_large = json!({"type": "a", "data": "x".repeat(999)});
    let problem = hub.post(EVENTS, &too_large).await.expect_problem(413, "payload_too_large");
    assert!(string_at(&problem, "/detail").replace([',', '_'], "").contains("1000"), "{problem}");
}

#[tokio::test]
async fn data_of_256_kib_is_accepted_by_default() {
    let hub = TestHub::start().await;
    let data = "x".repeat((256 << 10) - 2);
    let id = hub.publish("large", json!(data)).await;
    let read = hub.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(read["data"].as_str(), Some(data.as_str()));
}

#[tokio::test]
async fn an_invalid_event_is_refused_with_the_field() {
    let hub = TestHub::start().await;
    for (event, pointer) in [
        (json!({"data": 1}), "/type"),
        (json!({"type": "a"}), "/data"),
        (json!({"type": "", "data": 1}), "/type"),
        (json!({"type": "a..b", "data": 1}), "/type"),
        (json!({"type": "a.*", "data": 1}), "/type"),
        (json!({"type": "x".repeat(257), "data": 1}), "/type"),
        (json!({"type": "hookhub.subscription.created", "data": 1}), "/type"),
        (json!({"type": 7, "data": 1}), "/type"),
        (json!({"type": "a", "data": 1, "timestamp": "yesterday"}), "/timestamp"),
        (json!({"type": "a", "data": 1, "timestamp": 1_700_000_000}), "/timestamp"),
        (json!({"type": "a", "data": 1, "id": "evt_0"}), "/id"),
        (json!({"type": "a", "data": 1, "a/b~c": 1}), "/a~1b~0c"),
    ] {
        hub.post(EVENTS, &event).await.expect_invalid(pointer);
    }
    hub.post(EVENTS, &json!("text")).await.expect_problem(422, "validation_failed");
    assert!(hub.list_all(EVENTS).await.is_empty(), "no event of the batch was stored");
}

#[tokio::test]
async fn concurrent_publishers_get_distinct_positions() {
    let hub = TestHub::start().await;
    let ids = join_all((0..200).map(|n| hub.publish("many", json!(n)))).await;
    let listed: Vec<_> = hub
        .list_all("/v1/events?types=many")
        .await
        .iter()
        .map(|event| string_at(event, "/id"))
        .collect();
    assert!(listed.is_sorted());
    assert_eq!(listed.len(), 200);
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
}

#[tokio::test]
async fn a_repeat_with_the_same_idempotency_key_gets_the_first_response_and_appends_nothing() {
    let hub = TestHub::start().await;
    let event = json!({"type": "order.paid", "data": {"amount": 7}});
    let first = hub.post_idempotent(EVENTS, "key-1", &event).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    for key in ["key-1", "\"key-1\""] {
        let again = hub.post_idempotent(EVENTS, key, &event).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{key}");
        assert_eq!(again.expect(202), first.expect(202), "{key}");
    }
    let other = json!({"type": "order.paid", "data": {"amount": 8}});
    hub.post_idempotent(EVENTS, "key-1", &other)
        .await
        .expect_problem(422, "idempotency_key_reused");
    hub.post_idempotent(EVENTS, "key-2", &event).await.expect(202);
    hub.acting_for("another").post_idempotent(EVENTS, "key-1", &other).await.expect(202);
    assert_eq!(hub.list_all(EVENTS).await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_repeated_as_a_whole() {
    let hub = TestHub::start().await;
    let batch = json!([{"type": "a", "data": 1}, {"type": "not a type", "data": 2}, {"type": "c", "data": 3}]);
    let first = hub.post_idempotent(EVENTS, "batch-1", &batch).await.expect(202);
    let again = hub.post_idempotent(EVENTS, "batch-1", &batch).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202), first);
    assert_eq!(hub.list_all(EVENTS).await.len(), 2);
}

#[tokio::test]
async fn of_many_concurrent_repeats_one_runs() {
    let hub = TestHub::start().await;
    let event = json!({"type": "order.paid", "data": 7});
    let answers = join_all((0..20).map(|_| hub.post_idempotent(EVENTS, "the-key", &event))).await;
    let listed = hub.list_all(EVENTS).await;
    assert_eq!(listed.len(), 1);
    for response in &answers {
        match response.status {
            202 => assert_eq!(response.expect(202)["id"], listed[0]["id"]),
            _ => assert_eq!(response.expect_problem(409, "idempotency_key_in_use")["status"], 409),
        }
    }
    assert!(answers.iter().any(|response| response.status == 202));
}

#[tokio::test]
async fn an_invalid_idempotency_key_is_refused() {
    let hub = TestHub::start().await;
    let event = json!({"type": "order.paid", "data": 7});
    for key in ["", "\"\"", &"x".repeat(300)] {
        let refusal = hub.post_idempotent(EVENTS, key, &event).await;
        assert!((400..=422).contains(&refusal.status), "{key}: {}", refusal.body);
    }
    assert!(hub.list_all(EVENTS).await.is_empty());
}

#[tokio::test]
async fn an_idempotency_key_of_another_request_is_refused_without_affecting_concurrent_requests() {
    let hub = TestHub::start().await;
    let event = json!({"type": "order.paid", "data": 7});
    hub.post_idempotent("/v1/keys", "the-key", &json!({"name": "billing"})).await.expect(201);
    let (refused, other) = tokio::join!(
        hub.post_idempotent(EVENTS, "the-key", &event),
        hub.post_idempotent(EVENTS, "another-key", &event),
    );
    refused.expect_problem(422, "idempotency_key_reused");
    other.expect(202);
    assert_eq!(hub.list_all(EVENTS).await.len(), 1);
}
