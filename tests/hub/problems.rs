//! Invalid requests: each gets a problem document with a stable code and has no other effect.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{send_request, string_at};
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::in_time;

const JSON: &str = "application/json";

#[tokio::test]
async fn an_unknown_path_gets_404() {
    let hub = TestHub::start().await;
    for path in ["/", "/v1", "/v1/", "/v1/nothing", "/v2/events", "/v1/events/", "/v1/events/x/y/z"]
    {
        hub.get(path).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn an_unknown_id_gets_404() {
    let hub = TestHub::start().await;
    for id in ["sub_0000000000000", "sub_x", "evt_0000000000000", "%00", "..%2f..", "%ff"] {
        let found = hub.get(&format!("/v1/subscriptions/{id}")).await;
        assert!([400, 404].contains(&found.status), "{id}: {}", found.body);
        let found = hub.get(&format!("/v1/events/{id}")).await;
        assert!([400, 404].contains(&found.status), "{id}: {}", found.body);
    }
    hub.get("/v1/events/evt_0000000000000").await.expect_problem(404, "not_found");
    hub.delete("/v1/subscriptions/sub_0000000000000").await.expect_problem(404, "not_found");
    hub.delete("/v1/keys/key_0000000000000").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_unsupported_method_gets_405_with_the_allowed_methods() {
    let hub = TestHub::start().await;
    for (method, path, allowed) in [
        (Method::PUT, "/v1/events", &["GET", "POST"][..]),
        (Method::DELETE, "/v1/events/evt_0000000000000", &["GET"]),
        (Method::PATCH, "/v1/subscriptions", &["GET", "POST", "DELETE"]),
        (Method::POST, "/v1/subscriptions/sub_0000000000000", &["GET", "PATCH", "PUT", "DELETE"]),
        (Method::GET, "/v1/subscriptions/sub_0000000000000/pause", &["POST"]),
        (Method::POST, "/healthz", &["GET"]),
    ] {
        let refusal = send_request(hub.request(method, path)).await;
        refusal.expect_problem(405, "method_not_allowed");
        let allow: HashSet<_> = refusal.header("allow").unwrap().split(", ").collect();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{path}: {allow:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_gets_400() {
    let hub = TestHub::start().await;
    for path in ["/v1/events", "/v1/subscriptions", "/v1/keys"] {
        for body in
            ["", "{", "{\"type\": \"a\", \"data\": }", "{} {}", "[1", "\u{feff}{}", "{'type': 'a'}"]
        {
            hub.send_text(Method::POST, path, JSON, body).await.expect_problem(400, "invalid_json");
        }
        let not_text = hub
            .request(Method::POST, path)
            .header("content-type", JSON)
            .body(vec![b'"', 0xff, b'"']);
        let refusal = send_request(not_text).await;
        assert!([400, 422].contains(&refusal.status), "{}", refusal.body);
    }
    hub.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn a_deeply_nested_body_is_rejected_and_the_hub_keeps_serving() {
    let hub = TestHub::start().await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let event = format!(r#"{{"type": "a", "data": {deep}}}"#);
    let response = hub.send_text(Method::POST, "/v1/events", JSON, &event).await;
    assert!([202, 400, 422].contains(&response.status), "{}", response.body);
    let batch = hub.send_text(Method::POST, "/v1/events", JSON, &deep).await;
    assert!([202, 400, 422].contains(&batch.status), "{}", batch.body);
    let definition = format!(r#"{{"event_types": {deep}}}"#);
    hub.send_text(Method::POST, "/v1/subscriptions", JSON, &definition)
        .await
        .expect_problem(400, "invalid_json");
    assert_eq!(hub.get("/v1/events").await.status, 200);
    hub.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn an_unsupported_content_type_gets_415() {
    let hub = TestHub::start().await;
    let event = r#"{"type": "a", "data": 1}"#;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"]
    {
        hub.send_text(Method::POST, "/v1/events", content_type, event)
            .await
            .expect_problem(415, "unsupported_media_type");
    }
    hub.send_text(Method::POST, "/v1/subscriptions", "application/x-ndjson", "{}")
        .await
        .expect_problem(415, "unsupported_media_type");
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        hub.send_text(Method::POST, "/v1/events", content_type, event).await.expect(202);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413_with_the_limit() {
    let hub = TestHub::start().await;
    let events = format!("[{}1]", "1,".repeat(3 << 20));
    hub.send_text(Method::POST, "/v1/events", JSON, &events)
        .await
        .expect_problem(413, "payload_too_large");
    let definition = json!({"description": "x".repeat(1 << 20)}).to_string();
    let problem = hub.send_text(Method::POST, "/v1/subscriptions", JSON, &definition).await;
    assert!(
        string_at(&problem.expect_problem(413, "payload_too_large"), "/detail").contains("262144")
    );
}

#[tokio::test]
async fn an_endless_body_is_rejected_once_it_exceeds_the_limit() {
    let hub = TestHub::start().await;
    let url = hub.request(Method::GET, "/").build().unwrap().url().clone();
    let mut stream =
        TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: {JSON}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let (mut read, mut write) = stream.split();
    let pour = async { while write.write_all(chunk.as_bytes()).await.is_ok() {} };
    let mut response = vec![0; 12];
    let listen = async {
        read.read_exact(&mut response).await.unwrap();
    };
    let refused = async {
        tokio::select! {
            () = pour => panic!("hung up on without an answer"),
            () = listen => {}
        }
    };
    in_time("a response", refused).await;
    assert_eq!(String::from_utf8_lossy(&response), "HTTP/1.1 413");
}

#[tokio::test]
async fn an_invalid_query_gets_400() {
    let hub = TestHub::start().await;
    for path in [
        "/v1/events?limit=0",
        "/v1/events?limit=251",
        "/v1/events?limit=ten",
        "/v1/events?after=yesterday",
        "/v1/events?types=a..b",
        "/v1/events?order=up",
        "/v1/events?type=a",
        "/v1/events?limit=1&limit=2",
        "/v1/subscriptions?status=asleep",
        "/v1/subscriptions?after=evt_0000000000000",
        "/v1/attempts?status_class=9xx",
        "/v1/attempts?subscription=x",
        "/v1/attempts?after=x",
    ] {
        hub.get(path).await.expect_problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn a_problem_carries_the_request_id() {
    let hub = TestHub::start().await;
    let (one, other) = (hub.get("/v1/nothing").await, hub.get("/v1/nothing").await);
    let (first, second) =
        (one.expect_problem(404, "not_found"), other.expect_problem(404, "not_found"));
    assert_ne!(first["request_id"], second["request_id"]);
    assert_eq!(one.header("x-request-id"), first["request_id"].as_str());
}

#[tokio::test]
async fn healthz_and_readyz_need_no_key() {
    let hub = TestHub::start().await;
    let anyone = hub.with_key(None);
    for path in ["/healthz", "/readyz"] {
        anyone.get(path).await.expect(200);
    }
}
