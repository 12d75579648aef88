//! Size limits of requests: each is enforced with a problem document that names it, and other clients are unaffected.

use std::net::SocketAddr;

use hookhub::domain::access::networks::Networks;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Response, array_at, send_request, string_at};
use crate::support::hub::TestHub;
use crate::support::raw_client::{RawClient, request_head};
use crate::support::websocket::Socket;
use crate::support::{eventually, in_time};

const EVENTS: &str = "/v1/events";
const SUBSCRIPTIONS: &str = "/v1/subscriptions";
const JSON: &str = "application/json";

/// Sends raw bytes, returns the response, and closes the connection.
async fn answer_to(hub: SocketAddr, text: &str) -> Response {
    RawClient::connect_and_send(hub, text).await.receive().await
}

fn get(path: &str, more: &[&str]) -> String {
    request_head(&format!("GET {path} HTTP/1.1"), more) + "\r\n"
}

fn post(path: &str, more: &[&str]) -> String {
    let more: Vec<_> = [more, &["content-type: application/json"]].concat();
    request_head(&format!("POST {path} HTTP/1.1"), &more) + "\r\n"
}

fn loopback() -> Networks {
    Networks::parse("127.0.0.0/8").expect("a network")
}

/// A JSON text padded with spaces to this size.
fn padded(text: &str, bytes: usize) -> String {
    format!("{text}{}", " ".repeat(bytes - text.len()))
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_rejected_before_it_is_sent() {
    let hub = TestHub::start().await;
    for (path, most) in [(EVENTS, 5_u64 << 20), (SUBSCRIPTIONS, 256 << 10), ("/v1/keys", 256 << 10)]
    {
        for length in [most + 1, 1 << 40] {
            let announced = format!("content-length: {length}");
            let refusal = answer_to(hub.address(), &post(path, &[&announced])).await;
            let problem = refusal.expect_problem(413, "payload_too_large");
            assert!(string_at(&problem, "/detail").contains(&most.to_string()), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_body_of_the_maximum_size_is_accepted() {
    let hub = TestHub::start().await;
    let item = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(250_000));
    let batch = format!("[{}]", vec![item; 20].join(","));
    let body = padded(&batch, 5 << 20);
    let response = hub.send_text(Method::POST, EVENTS, JSON, &body).await.expect(202);
    assert_eq!(array_at(&response, "/data").len(), 20);
    let refused = hub.send_text(Method::POST, EVENTS, JSON, &(body + " ")).await;
    refused.expect_problem(413, "payload_too_large");
    let definition = json!({"event_types": ["a"]}).to_string();
    let body = padded(&definition, 256 << 10);
    hub.send_text(Method::POST, SUBSCRIPTIONS, JSON, &body).await.expect(201);
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_is_not_processed() {
    let hub = TestHub::start().await;
    let event = r#"{"type":"a","data":1}"#;
    let request = post(EVENTS, &["content-length: 500"]) + event;
    let mut client = RawClient::connect_and_send(hub.address(), &request).await;
    client.shutdown_write().await;
    client.wait_for_end().await;
    // A request without a length has no body.
    let request = post(EVENTS, &[]);
    answer_to(hub.address(), &request).await.expect_problem(400, "invalid_json");
    assert!(hub.list_all(EVENTS).await.is_empty());
}

#[tokio::test]
async fn a_chunked_body_is_accepted_and_malformed_chunks_are_rejected() {
    let hub = TestHub::start().await;
    let request = post(EVENTS, &["transfer-encoding: chunked"]);
    let good = "7\r\n{\"type\"\r\n0e;x=y\r\n:\"a\",\"data\":1}\r\n0\r\n\r\n";
    answer_to(hub.address(), &(request.clone() + good)).await.expect(202);
    for bad in ["zz\r\n", "5\r\n{}\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let refusal = answer_to(hub.address(), &(request.clone() + bad)).await;
        assert_eq!(refusal.status, 400, "{bad:?}: {}", refusal.body);
    }
    assert_eq!(hub.list_all(EVENTS).await.len(), 1);
}

/// A proxy in front of the hub may read each of these lengths in another way (RFC 9112, sections 6.3 and 11.2).
#[tokio::test]
async fn a_body_with_an_ambiguous_length_is_rejected() {
    let hub = TestHub::start().await;
    for doubtful in [
        &["content-length: 3", "transfer-encoding: chunked"][..],
        &["content-length: 3", "content-length: 4"],
        &["content-length: +3"],
        &["content-length: 3, 3"],
        &["content-length: 99999999999999999999999"],
        &["transfer-encoding: gzip, chunked"],
        &["transfer-encoding: chunked", "transfer-encoding: chunked"],
    ] {
        let client = RawClient::connect_and_send(hub.address(), &post(EVENTS, doubtful)).await;
        let received = String::from_utf8(client.wait_for_end().await).unwrap();
        assert!(received.starts_with("HTTP/1.1 400 "), "{doubtful:?}: {received}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_rejected_without_decompression() {
    let hub = TestHub::start().await;
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, gzip", "identity, gzip"] {
        for path in [EVENTS, SUBSCRIPTIONS] {
            let request = hub.request(Method::POST, path).header("content-type", JSON);
            let refusal =
                send_request(request.header("content-encoding", encoding).body("{}")).await;
            let problem = refusal.expect_problem(415, "unsupported_media_type");
            assert!(string_at(&problem, "/detail").contains("Content-Encoding"), "{problem}");
        }
    }
    let event = json!({"type": "a", "data": 1}).to_string();
    let request = hub.request(Method::POST, EVENTS).header("content-type", JSON);
    send_request(request.header("content-encoding", "identity").body(event)).await.expect(202);
}

#[tokio::test]
async fn an_oversized_target_or_header_is_rejected_with_the_limit() {
    let hub = TestHub::start().await;
    let with_target = |bytes: usize| {
        let path = "/v1/events?types=";
        get(&format!("{path}{}", "a".repeat(bytes - path.len())), &["connection: close"])
    };
    // The event type in the query is too long, not the target.
    answer_to(hub.address(), &with_target(8_192)).await.expect_problem(400, "invalid_parameter");
    for bytes in [8_193, 60_000] {
        let problem = answer_to(hub.address(), &with_target(bytes)).await;
        let problem = problem.expect_problem(414, "uri_too_long");
        assert!(string_at(&problem, "/detail").contains("8192"), "{problem}");
    }
    let lines = |count: usize| -> Vec<String> { (0..count).map(|n| format!("x-{n}: a")).collect() };
    let with_lines =
        |lines: &[String]| get(EVENTS, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    // The client itself adds two header lines.
    answer_to(hub.address(), &with_lines(&lines(62))).await.expect(200);
    for count in [63, 90] {
        let problem = answer_to(hub.address(), &with_lines(&lines(count))).await;
        let problem = problem.expect_problem(431, "headers_too_large");
        assert!(string_at(&problem, "/detail").contains("64"), "{problem}");
    }
    let with_bytes = |bytes: usize| with_lines(&[format!("x: {}", "a".repeat(bytes))]);
    answer_to(hub.address(), &with_bytes(32_000)).await.expect(200);
    for bytes in [33_000, 120_000] {
        let problem = answer_to(hub.address(), &with_bytes(bytes)).await;
        let problem = problem.expect_problem(431, "headers_too_large");
        assert!(string_at(&problem, "/detail").contains("32768"), "{problem}");
    }
}

/// The HTTP library has limits of its own, which apply before the hub's. Its responses carry no problem document.
#[tokio::test]
async fn an_endless_or_invalid_request_head_is_rejected_and_the_connection_closed() {
    let hub = TestHub::start().await;
    let lines = (0..97).map(|n| format!("x-{n}: a")).collect::<Vec<_>>().join("\r\n");
    let long = "a".repeat(200_000);
    for (status, text) in [
        (431, format!("{}\r\n", request_head("GET / HTTP/1.1", &[&lines]))),
        (431, request_head("GET / HTTP/1.1", &[&format!("x: {long}")])),
        (431, format!("GET /{long}")),
        (400, get(&format!("/{}", "a".repeat(70_000)), &[])),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, get("/", &["host: two"])),
        (400, get("/", &["a b: c"])),
        (400, get("/", &["x: a\r\n folded"])),
        (400, get("/\u{85}", &[])),
        (400, "GET / HTTP/3.0\r\nhost: hub\r\n\r\n".to_owned()),
        (400, "\0\0\0\0".to_owned()),
    ] {
        let mut client = RawClient::connect(hub.address()).await;
        client.try_send(text.as_bytes()).await;
        let received = String::from_utf8(client.wait_for_end().await).unwrap();
        let shown: String = text.chars().take(80).collect();
        assert!(received.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {received}");
    }
    hub.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn too_deeply_nested_json_is_rejected_with_the_limit_everywhere() {
    let hub = TestHub::start().await;
    let event = |levels| format!(r#"{{"type": "a", "data": {}}}"#, nested(levels));
    hub.send_text(Method::POST, EVENTS, JSON, &event(127)).await.expect(202);
    for levels in [128, 100_000] {
        let refused = hub.send_text(Method::POST, EVENTS, JSON, &event(levels)).await;
        refused.expect_invalid("/data");
        assert!(refused.body.contains("127 levels"), "{}", refused.body);
        let line =
            format!("{}\n{{\"type\": \"a\", \"data\": 1}}\n{}", event(levels), nested(levels));
        let kind = "application/x-ndjson";
        let results = hub.send_text(Method::POST, EVENTS, kind, &line).await.expect(202);
        assert_eq!(results["data"][0]["error"]["errors"][0]["pointer"], "/data");
        assert!(results["data"][1]["id"].is_string(), "{results}");
        let detail = string_at(&results, "/data/2/error/detail");
        assert!(detail.contains("levels") || detail.contains("an array"), "{detail}");
    }
    for body in [
        nested(100_000),
        "[".repeat(200_000),
        r#"{"a":"#.repeat(40_000),
        format!(r#"{{"event_types": ["a"], "metadata": {}}}"#, nested(1_000)),
        format!(r#"{{"event_types": {}}}"#, nested(100_000)),
    ] {
        let refused = hub.send_text(Method::POST, SUBSCRIPTIONS, JSON, &body).await;
        let problem = refused.expect_problem(400, "invalid_json");
        assert!(string_at(&problem, "/detail").contains("127 levels"), "{problem}");
    }
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
    for (command, expected) in [
        (format!(r#"{{"publish": {}}}"#, event(128)), "/data"),
        (format!(r#"{{"publish": {}}}"#, nested(100_000)), "one event"),
        (format!(r#"{{"subscribe": {}}}"#, nested(100_000)), "127 levels"),
        (format!(r#"{{"subscribe": {{"types": {}}}}}"#, nested(1_000)), "127 levels"),
        (format!(r#"{{"ack": {}}}"#, nested(100_000)), "event id"),
        (nested(100_000), "expected one of"),
    ] {
        socket.send_text(&command).await;
        let response = socket.receive().await.to_string();
        assert!(
            response.contains("error") && response.contains(expected),
            "{expected}: {response}"
        );
    }
    hub.get("/readyz").await.expect(200);
}

/// Publishers' data is kept as it is; text that the hub interprets must be valid UTF-8 without NUL.
#[tokio::test]
async fn unusual_json_is_kept_as_event_data_and_rejected_in_a_definition() {
    let hub = TestHub::start().await;
    for data in [
        r#""\ud800""#,
        r#""\u0000""#,
        r#"{"\u0000": 1, "a": 1, "a": 2}"#,
        "1e999999",
        "-0.0",
        &"9".repeat(200_000),
    ] {
        let event = format!(r#"{{"type": "a", "data": {data}}}"#);
        let response = hub.send_text(Method::POST, EVENTS, JSON, &event).await.expect(202);
        let read = hub.get(&format!("/v1/events/{}", string_at(&response, "/id"))).await;
        assert!(read.body.ends_with(&format!(r#""data":{data}}}"#)), "{}", read.body);
    }
    for (field, code) in [
        (r#""description": "\ud800""#, "invalid_json"),
        (r#""description": "\u0000""#, "validation_failed"),
        (r#""metadata": {"\u0000": "a"}"#, "validation_failed"),
        (r#""headers": {"x\u0000": "a"}"#, "validation_failed"),
        (r#""timeout_s": 1e999999"#, "invalid_json"),
        (r#""timeout_s": 99999999999999999999999"#, "validation_failed"),
        (r#""timeout_s": 1.5"#, "validation_failed"),
        (r#""timeout_s": -1"#, "validation_failed"),
        (r#""timeout_s": 15, "timeout_s": 16"#, "invalid_json"),
        (r#""event_types": ["b"]"#, "invalid_json"),
        (r#""metadata": {"a": "1", "a": "2"}"#, "invalid_json"),
    ] {
        let body = format!(r#"{{"event_types": ["a"], {field}}}"#);
        let refused = hub.send_text(Method::POST, SUBSCRIPTIONS, JSON, &body).await;
        assert_eq!(refused.status, if code == "invalid_json" { 400 } else { 422 }, "{field}");
        refused.expect_problem(refused.status, code);
    }
    assert!(hub.list_all(SUBSCRIPTIONS).await.is_empty());
}

#[tokio::test]
async fn invalid_utf8_is_rejected_without_affecting_valid_lines() {
    let hub = TestHub::start().await;
    let send = async |path: &str, kind: &str, body: &[u8]| {
        let request = hub.request(Method::POST, path).header("content-type", kind);
        send_request(request.body(body.to_vec())).await
    };
    for body in
        [&b"{\"type\":\"a\",\"data\":\"\xff\"}"[..], b"[{\"type\":\"a\",\"data\":\"\xff\"}]"]
    {
        send(EVENTS, JSON, body).await.expect_problem(400, "invalid_json");
    }
    send(SUBSCRIPTIONS, JSON, b"{\"event_types\":[\"\xc0\x80\"]}")
        .await
        .expect_problem(400, "invalid_json");
    let lines = b"{\"type\":\"a\",\"data\":1}\n{\"type\":\"a\",\"data\":\"\xff\"}\n\xff\n{\"type\":\"a\",\"data\":2}";
    let results = send(EVENTS, "application/x-ndjson", lines).await.expect(202);
    let good: Vec<_> =
        array_at(&results, "/data").iter().map(|result| result["id"].is_string()).collect();
    assert_eq!(good, [true, false, false, true]);
}

#[tokio::test]
async fn an_oversized_line_or_item_is_rejected_without_affecting_the_others() {
    let hub = TestHub::start_with(|settings| settings.quotas.event_bytes = 1_024).await;
    let events =
        [json!("x".repeat(2_000)), json!(1)].map(|data| json!({"type": "a", "data": data}));
    let lines = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let kind = "application/x-ndjson";
    for results in [
        hub.send_text(Method::POST, EVENTS, kind, &lines).await.expect(202),
        hub.post(EVENTS, &json!(events)).await.expect(202),
    ] {
        assert_eq!(results["data"][0]["error"]["code"], "payload_too_large", "{results}");
        assert!(string_at(&results, "/data/0/error/detail").contains("1024"));
        assert!(results["data"][1]["id"].is_string(), "{results}");
    }
    let many = "1\n".repeat(1_001);
    let refused = hub.send_text(Method::POST, EVENTS, kind, &many).await;
    assert!(
        string_at(&refused.expect_problem(413, "payload_too_large"), "/detail").contains("1000")
    );
    // As many elements as fit in a body.
    let many = format!("[{}1]", "1,".repeat(2_500_000));
    hub.send_text(Method::POST, EVENTS, JSON, &many).await.expect_problem(413, "payload_too_large");
}

#[tokio::test]
async fn lists_and_texts_of_a_subscription_are_limited_and_the_limit_is_named() {
    let hub = TestHub::start().await;
    let patterns = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let members = |count: usize| -> Value {
        (0..count).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let most = json!({
        "event_types": patterns(100), "metadata": members(50), "headers": members(20),
        "description": "x".repeat(1_000), "retry_schedule_s": vec![5; 50],
        "callback_url": "https://example.com/",
    });
    hub.post(SUBSCRIPTIONS, &most).await.expect(201);
    for (field, value, limit) in [
        ("event_types", json!(patterns(101)), "100"),
        ("metadata", members(51), "50"),
        ("headers", members(21), "20"),
        ("description", json!("x".repeat(1_001)), "1000"),
        ("retry_schedule_s", json!(vec![5; 51]), "50"),
    ] {
        let mut definition = most.clone();
        definition[field] = value;
        let refused = hub.post(SUBSCRIPTIONS, &definition).await;
        refused.expect_invalid(&format!("/{field}"));
        assert!(refused.body.contains(limit), "{}", refused.body);
    }
    for (field, value) in [("metadata", "x".repeat(1_001)), ("headers", "x".repeat(1_001))] {
        let definition = json!({"event_types": ["a"], field: {"a": value}});
        hub.post(SUBSCRIPTIONS, &definition).await.expect_invalid(&format!("/{field}/a"));
    }
    let path = |count: usize| format!("/v1/events?types={}", patterns(count).join(","));
    hub.get(&path(100)).await.expect(200);
    let refused = hub.get(&path(101)).await.expect_problem(400, "invalid_parameter");
    assert!(string_at(&refused, "/detail").contains("100"), "{refused}");
    let token = json!({"types": patterns(101)});
    hub.post("/v1/stream-tokens", &token).await.expect_invalid("/types");
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws")).await.unwrap();
    socket.send(&json!({"subscribe": {"types": patterns(101)}})).await;
    assert_eq!(socket.receive().await["error"]["code"], "validation_failed");
}

/// The longest token that the hub issues fits in a URL.
#[tokio::test]
async fn the_longest_stream_token_fits_in_a_url() {
    let hub = TestHub::start().await;
    let types: Vec<_> = (0..12).map(|n| format!("{n}{}", "x".repeat(230))).collect();
    let created = hub.post("/v1/stream-tokens", &json!({"types": types})).await.expect(201);
    let token = string_at(&created, "/token");
    assert!((3_500..=4_096).contains(&token.len()), "{}", token.len());
    let anyone = hub.with_key(None);
    anyone.get(&format!("/v1/events?access_token={token}&types={}", types[0])).await.expect(200);
}

/// Opens a stream that claims to come from `forwarded`, behind a proxy.
async fn stream_from(hub: &TestHub, forwarded: &str) -> (RawClient, Response) {
    let request = get("/v1/stream", &[&format!("x-forwarded-for: {forwarded}")]);
    let mut client = RawClient::connect_and_send(hub.address(), &request).await;
    let response = client.receive().await;
    (client, response)
}

#[tokio::test]
async fn streams_per_address_are_limited_by_the_address_a_trusted_proxy_forwards() {
    let hub = TestHub::start_with(|settings| {
        settings.stream_limits.per_address = 2;
        settings.trusted_proxies.networks = loopback();
    })
    .await;
    let mut open = Vec::new();
    for from in ["192.0.2.1", "192.0.2.2", "203.0.113.9, 192.0.2.1", "2001:db8::1", "2001:db8::2"] {
        let (client, response) = stream_from(&hub, from).await;
        assert_eq!(response.status, 200, "{from}: {}", response.body);
        open.push(client);
    }
    for from in ["192.0.2.1", "192.0.2.9, 192.0.2.1", "192.0.2.1, 127.0.0.9", "2001:db8::3"] {
        let (_, refused) = stream_from(&hub, from).await;
        let problem = refused.expect_problem(429, "too_many_connections");
        assert!(
            string_at(&problem, "/detail").contains("HOOKHUB_MAX_STREAMS_PER_ADDRESS"),
            "{problem}"
        );
        assert!(refused.header("retry-after").is_some());
    }
    drop(open);
    let again = async || {
        let (client, response) = stream_from(&hub, "192.0.2.1").await;
        (response.status == 200).then_some(client)
    };
    eventually("a connection is free again", again).await;
}

#[tokio::test]
async fn a_forged_forwarded_address_opens_no_additional_streams() {
    let hub = TestHub::start_with(|settings| settings.stream_limits.per_address = 1).await;
    let (_held, response) = stream_from(&hub, "192.0.2.1").await;
    assert_eq!(response.status, 200);
    let (_, refused) = stream_from(&hub, "192.0.2.2").await;
    refused.expect_problem(429, "too_many_connections");
}

#[tokio::test]
async fn connections_per_address_are_limited_with_a_429() {
    let hub = TestHub::start_with(|settings| settings.max_connections_per_address = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = RawClient::connect_and_send(hub.address(), &get("/healthz", &[])).await;
        client.receive().await.expect(200);
        open.push(client);
    }
    for _ in 0..5 {
        let mut one_more = RawClient::connect(hub.address()).await;
        let refused = one_more.receive().await;
        let problem = refused.expect_problem(429, "too_many_connections");
        let detail = string_at(&problem, "/detail");
        assert!(detail.contains("HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS"), "{detail}");
        assert_eq!(refused.header("retry-after"), Some("10"));
        assert!(one_more.wait_for_end().await.is_empty());
    }
    for client in &mut open {
        client.send(get("/healthz", &[]).as_bytes()).await;
        client.receive().await.expect(200);
    }
    drop(open);
    let again = async || {
        let mut client = RawClient::connect(hub.address()).await;
        client.try_send(get("/healthz", &[]).as_bytes()).await;
        (client.receive().await.status == 200).then_some(())
    };
    eventually("a connection is free again", again).await;
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_are_not_limited() {
    let hub = TestHub::start_with(|settings| {
        settings.max_connections_per_address = 1;
        settings.trusted_proxies.networks = loopback();
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut client = RawClient::connect_and_send(hub.address(), &get("/healthz", &[])).await;
        client.receive().await.expect(200);
        open.push(client);
    }
}

#[tokio::test]
async fn endless_changes_of_a_websockets_event_types_do_not_affect_other_clients() {
    let hub = TestHub::start().await;
    hub.publish_many("a", 100).await;
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
    let changes = async {
        for n in 0..500 {
            let after = if n % 2 == 0 { "earliest" } else { "now" };
            socket
                .send(&json!({"subscribe": {"types": [format!("never.{n}")], "after": after}}))
                .await;
            assert!(socket.receive().await["subscribed"].is_object());
        }
    };
    let others = async {
        for _ in 0..20 {
            hub.publish("a", json!(1)).await;
        }
    };
    in_time("both end", async { tokio::join!(changes, others) }).await;
}
