//! Arbitrary input: valid input is returned unchanged, invalid input gets a response, and the hub keeps serving.
//! `PROPTEST_CASES` sets the number of cases; the default is 256.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::join_all;
use hookhub::config::ClientTimeouts;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::client::{array_at, send_request, string_at};
use crate::support::follower::{Follower, Transport};
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::raw_client::{RawClient, request_head};
use crate::support::websocket::Socket;

/// Generates values: one for every `part` requested cases.
fn some<T: Debug>(strategy: impl Strategy<Value = T>, part: u32) -> Vec<T> {
    let cases = Config::default().cases.div_ceil(part);
    let mut runner = TestRunner::new(Config::default());
    (0..cases).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

/// Text with every character that could be mistaken for a delimiter.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "(\r|\n|\r\n|\u{2028}|\u{2029}|\u{85}|\u{0}|\u{feff}|data: |id: x|event: x|\n\n|:|\"|\\\\){1,8}",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_text(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A valid body in which some bytes are replaced, removed or duplicated.
fn nearly(good: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..4);
    (prop::sample::select(good), changes).prop_map(|(good, changes)| {
        let mut bytes = good.into_bytes();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.splice(at..=at, [byte])),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
        }
        bytes
    })
}

fn any_body(good: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => nearly(good),
        1 => prop::collection::vec(any::<u8>(), 0..60),
        1 => any_value().prop_map(|value| value.to_string().into_bytes()),
    ]
}

#[tokio::test]
async fn arbitrary_event_data_is_returned_unchanged_by_every_read_api() {
    let hub = TestHub::start().await;
    let event = ("[A-Za-z0-9_-]{1,8}([.][A-Za-z0-9_-]{1,8}){0,2}", any_value(), any::<bool>());
    let given: Vec<(String, Value, bool)> = some(event, 4);
    let mut expected = Vec::new();
    for (event_type, data, pretty) in &given {
        let event = json!({"type": event_type, "data": data});
        let body = if *pretty {
            serde_json::to_string_pretty(&event)
        } else {
            serde_json::to_string(&event)
        };
        let sent =
            hub.send_text(Method::POST, "/v1/events", "application/json", &body.unwrap()).await;
        expected.push((string_at(&sent.expect(202), "/id"), event_type.clone(), data.clone()));
    }
    let mut texts: Vec<Vec<String>> = Vec::new();
    for transport in [Transport::ShortPoll, Transport::Sse, Transport::WebSocket] {
        let mut follower = Follower::from_earliest(&hub, transport).await;
        let mut read = Vec::new();
        for (id, event_type, data) in &expected {
            let event = in_time("an event", follower.next()).await;
            assert_eq!(
                (&event.id, &event.event_type, &event.data),
                (id, event_type, data),
                "{transport:?}"
            );
            read.push(event.json);
        }
        texts.push(read);
    }
    assert!(
        texts.windows(2).all(|two| two[0] == two[1]),
        "the transports returned different bytes"
    );
}

#[tokio::test]
async fn arbitrary_request_bodies_get_a_response() {
    let hub = TestHub::start().await;
    let subscription = hub.subscribe(&json!({"event_types": ["never"]})).await;
    let event = json!({"type": "a", "data": {"b": [1, "x"]}, "timestamp": "2026-11-25T17:00:00Z"});
    let definition = json!({
        "event_types": ["a.*"], "callback_url": "https://example.com/?a=b", "description": "x", "metadata": {"k": "v"},
        "headers": {"x-a": "b"}, "retry_schedule_s": [5, 30], "ordered": true, "order_by": "/a/b", "from": "earliest",
    });
    let own = format!("/v1/subscriptions/{subscription}");
    let good =
        [event, definition, json!({"types": ["a"], "ttl_s": 60}), json!({"cursor": "earliest"})];
    let mut good: Vec<String> = good.iter().map(Value::to_string).collect();
    good.push(format!("[{},{}]", good[0], good[0]));
    good.push(format!("{}\n{}\n", good[0], good[0]));
    let routes = [
        (Method::POST, "/v1/events"),
        (Method::POST, "/v1/subscriptions"),
        (Method::POST, "/v1/stream-tokens"),
        (Method::POST, "/v1/keys"),
        (Method::PATCH, &*own),
        (Method::PUT, &own),
        (Method::DELETE, "/v1/subscriptions"),
    ];
    let kinds = prop::sample::select(vec!["application/json", "application/x-ndjson"]);
    for (route, kind, body) in some((0..routes.len(), kinds, any_body(good)), 2) {
        let (method, path) = routes[route].clone();
        let request = hub.request(method.clone(), path).header("content-type", kind);
        let response = send_request(request.body(body.clone())).await;
        let shown = String::from_utf8_lossy(&body);
        assert!(response.status < 500, "{method} {path} {shown:?}: {}", response.body);
        if response.status >= 400 {
            let problem: Value = serde_json::from_str(&response.body).expect("a problem");
            response.expect_problem(response.status, &string_at(&problem, "/code"));
        }
    }
    hub.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn arbitrary_batches_get_one_result_per_item_and_valid_items_are_stored() {
    let hub = TestHub::start().await;
    let item = prop_oneof![
        any_value().prop_map(|data| json!({"type": "a", "data": data})),
        any_value(),
        any_text().prop_map(|event_type| json!({"type": event_type, "data": 1})),
    ];
    let mut stored = 0;
    for items in some(prop::collection::vec(item, 1..8), 8) {
        let response = hub.post("/v1/events", &Value::from(items.clone())).await.expect(202);
        let results = array_at(&response, "/data");
        assert_eq!(results.len(), items.len(), "{response}");
        for (item, result) in items.iter().zip(results) {
            let is_stored = result["id"].is_string();
            assert_ne!(is_stored, result["error"]["code"].is_string(), "{result}");
            stored += usize::from(is_stored);
            if item["type"] == "a" && item["data"] != Value::Null {
                assert!(is_stored, "{item}: {result}");
            }
        }
    }
    assert_eq!(hub.list_all("/v1/events").await.len(), stored);
}

#[tokio::test]
async fn arbitrary_queries_and_headers_get_a_response() {
    let hub = TestHub::start().await;
    hub.publish_many("a", 3).await;
    let part = "(types|after|limit|wait|order|named|last_event_id|access_token|status|event_type|subscription)";
    let value = "(now|earliest|evt_[0-9A-Z]{13}|[!$-%'-;=?-Z_a-z~]{0,12}|%[0-9a-f]{2}|[0-9]{1,22}|a[.]b,[*])";
    let query = format!("({part}={value}&?){{0,4}}");
    let name = prop::sample::select(vec![
        "last-event-id",
        "hookhub-tenant",
        "x-forwarded-for",
        "forwarded",
        "content-type",
        "accept",
        "origin",
        "idempotency-key",
        "expect",
        "connection",
        "cookie",
        "range",
        "if-none-match",
        "te",
        "accept-encoding",
    ]);
    let header = (name, prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..], 0..30));
    let path = prop::sample::select(vec![
        "/v1/events",
        "/v1/stream",
        "/v1/subscriptions",
        "/v1/attempts",
        "/v1/ws",
    ]);
    for (path, query, (name, value)) in some((path, query.as_str(), header), 2) {
        // No request may wait this long here.
        let query = query.replace("wait=", "limit=");
        let request_line = format!("HEAD {path}?{query} HTTP/1.1\r\n{name}: ");
        let rest = request_head("", &["connection: close"]);
        let request = [request_line.as_bytes(), &value, rest.as_bytes(), b"\r\n"].concat();
        let mut client = RawClient::connect(hub.address()).await;
        client.send(&request).await;
        let received = client.wait_for_end().await;
        let status = String::from_utf8_lossy(received.get(9..12).expect("a status")).into_owned();
        let shown = String::from_utf8_lossy(&request);
        assert!(status.parse::<u16>().is_ok_and(|status| status < 500), "{shown}: {status}");
    }
    hub.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn arbitrary_websocket_text_gets_exactly_one_reply() {
    let hub = TestHub::start().await;
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
    let good = [
        json!({"subscribe": {"types": ["never"], "after": "now"}}),
        json!({"ack": "evt_0000000000000"}),
        json!({"publish": {"type": "a", "data": {"b": 1}}}),
    ];
    let commands = any_body(good.iter().map(Value::to_string).collect());
    for command in some(commands, 2) {
        let command = String::from_utf8_lossy(&command).into_owned();
        socket.send_text(&command).await;
        let reply = socket.receive().await;
        let reply = reply.as_object().expect("an object");
        let known = ["subscribed", "acked", "published", "error"];
        // The socket may now read all new events.
        if reply.contains_key("subscribed") || reply.contains_key("id") {
            socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
            continue;
        }
        assert!(
            reply.len() == 1 && known.iter().any(|name| reply.contains_key(*name)),
            "{command:?}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn arbitrary_websocket_bytes_get_a_reply_or_a_close() {
    let hub = TestHub::start().await;
    let frame = (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40));
    let frames = prop::collection::vec(frame, 1..4);
    for frames in some(frames, 8) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(first, second, rest)| [&[*first, *second], &**rest].concat())
            .collect();
        let mut socket =
            Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
        drop(socket.send_raw_and_check(&bytes).await);
        // Masked as a client's frame, so that a hub that still reads processes it.
        drop(socket.send_raw_and_check(b"\x89\x80\0\0\0\0").await);
    }
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
    socket.send_message(Message::Ping(b"still there".to_vec().into())).await;
    socket.wait_for_pong(b"still there").await;
    hub.publish("a", json!(1)).await;
}

#[tokio::test]
async fn arbitrary_bytes_on_a_connection_get_a_response_or_a_close() {
    let second = Duration::from_secs(1);
    let hub = TestHub::start_with(|settings| {
        settings.client_timeouts = ClientTimeouts { head: second, body: second, idle: second };
    })
    .await;
    let good = vec![
        request_head("GET /healthz HTTP/1.1", &["connection: close"]) + "\r\n",
        request_head("POST /v1/events HTTP/1.1", &["content-length: 21", "connection: close"])
            + "\r\n{\"type\":\"a\",\"data\":1}",
        request_head(
            "POST /v1/events HTTP/1.1",
            &["transfer-encoding: chunked", "connection: close"],
        ) + "\r\n5\r\n{\"typ\r\n10\r\ne\":\"a\",\"data\":1}\r\n0\r\n\r\n",
    ];
    for requests in some(nearly(good), 1).chunks(32) {
        let answers = requests.iter().map(async |request| {
            let mut client = RawClient::connect(hub.address()).await;
            client.try_send(request).await;
            let received = client.wait_for_end().await;
            let (shown, response) =
                (String::from_utf8_lossy(request), String::from_utf8_lossy(&received));
            assert!(response.is_empty() || response.starts_with("HTTP/1."), "{shown}: {response}");
            assert!(!response.contains("HTTP/1.1 5"), "{shown}: {response}");
        });
        join_all(answers).await;
    }
    hub.get("/readyz").await.expect(200);
}
