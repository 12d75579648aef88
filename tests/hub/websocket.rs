//! WebSocket: commands, replies, and invalid frames (RFC 6455).

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::client::{Client, send_request, string_at};
use crate::support::follower::End;
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::waits::wait_for_connections;
use crate::support::websocket::Socket;

/// Maximum size of a message: the maximum of an event's data, and 16 KiB for the rest.
const MAX_MESSAGE_BYTES: usize = (256 << 10) + (16 << 10);

async fn open(hub: &Client, query: &str) -> Socket {
    let request = hub.request(Method::GET, &format!("/v1/ws?{query}"));
    in_time("a connection", Socket::open(request)).await.expect("a WebSocket")
}

async fn receive_ids(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(string_at(&socket.receive().await, "/id"));
    }
    ids
}

#[tokio::test]
async fn subscribe_without_after_changes_the_types_from_the_current_position() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "types=a").await;
    let first = hub.publish("a", json!(1)).await;
    hub.publish("b", json!("passed over")).await;
    let second = hub.publish("a", json!(2)).await;
    assert_eq!(receive_ids(&mut socket, 2).await, [first, second.clone()]);
    socket.send(&json!({"subscribe": {"types": ["b", "c.*"]}})).await;
    let expected = json!({"subscribed": {"types": ["b", "c.*"], "after": second}});
    assert_eq!(socket.receive().await, expected);
    hub.publish("a", json!("not any more")).await;
    let expected = [hub.publish("b", json!(3)).await, hub.publish("c.d", json!(4)).await];
    assert_eq!(receive_ids(&mut socket, 2).await, expected);
}

#[tokio::test]
async fn subscribe_with_after_continues_from_that_position() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("a", 5).await;
    let mut socket = open(&hub, "types=a&after=earliest").await;
    assert_eq!(receive_ids(&mut socket, 5).await, ids);
    socket.send(&json!({"subscribe": {"types": ["a"], "after": ids[1]}})).await;
    let expected = json!({"subscribed": {"types": ["a"], "after": ids[1]}});
    assert_eq!(socket.receive().await, expected);
    assert_eq!(receive_ids(&mut socket, 3).await, ids[2..]);
    socket.send(&json!({"subscribe": {"after": "earliest"}})).await;
    assert_eq!(socket.receive().await["subscribed"]["types"], json!(["*"]));
    assert_eq!(receive_ids(&mut socket, 5).await, ids);
    socket.send(&json!({"subscribe": {"after": "now"}})).await;
    assert_eq!(socket.receive().await["subscribed"]["after"], json!(ids[4]));
    let live = hub.publish("b", json!(1)).await;
    assert_eq!(receive_ids(&mut socket, 1).await, [live]);
    let listed = wait_for_connections(&hub, 1).await;
    assert_eq!(listed[0]["event_types"], json!(["*"]));
}

#[tokio::test]
async fn subscribe_with_an_unknown_position_sends_a_gap() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("a", 2).await;
    let mut socket = open(&hub, "").await;
    socket.send(&json!({"subscribe": {"after": "evt_7ZZZZZZZZZZZZ"}})).await;
    assert!(socket.receive().await["subscribed"].is_object());
    let gap = socket.receive().await;
    assert_eq!((&gap["type"], &gap["data"]["earliest"]), (&json!("hookhub.gap"), &json!(ids[0])));
    assert_eq!(receive_ids(&mut socket, 2).await, ids);
    let mut socket = open(&hub, "after=garbage").await;
    assert_eq!(socket.receive().await["type"], "hookhub.gap");
    assert_eq!(receive_ids(&mut socket, 2).await, ids);
}

#[tokio::test]
async fn repeated_type_changes_during_publishing_lose_and_duplicate_no_event() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "types=n,x0").await;
    let publish = async {
        let mut ids = Vec::new();
        for n in 0..150 {
            ids.extend(hub.publish_many("n", 1 + n % 5).await);
        }
        hub.publish("n", json!("end")).await;
        ids
    };
    let follow = async {
        let (mut met, mut changes) = (Vec::new(), 0);
        loop {
            let message = socket.receive().await;
            if message["subscribed"].is_object() {
                continue;
            }
            if message["data"] == "end" {
                return (met, changes);
            }
            met.push(string_at(&message, "/id"));
            if met.len() % 3 == 0 {
                changes += 1;
                let types = ["n".to_owned(), format!("x{changes}")];
                socket.send(&json!({"subscribe": {"types": types}})).await;
            }
        }
    };
    let (published, (met, changes)) = tokio::join!(publish, follow);
    assert_eq!(met, published);
    assert!(changes > 100, "{changes}");
}

#[tokio::test]
async fn an_event_published_by_websocket_is_durable_and_reaches_the_readers() {
    let hub = TestHub::start().await;
    let (mut socket, mut other) = (open(&hub, "").await, open(&hub, "").await);
    let event = json!({"type": "order.paid", "data": {"z": 1, "a": [2.50]}});
    socket.send(&json!({"publish": event})).await;
    let (mut receipt, mut echo) = (Value::Null, Value::Null);
    for _ in 0..2 {
        let message = socket.receive().await;
        if message["published"].is_object() {
            receipt = message["published"].clone();
        } else {
            echo = message;
        }
    }
    let kept = hub.get(&format!("/v1/events/{}", string_at(&receipt, "/id"))).await.expect(200);
    assert_eq!((&kept, &kept), (&echo, &other.receive().await));
    let members: Vec<_> = receipt.as_object().unwrap().keys().collect();
    assert_eq!(members, ["id", "type", "timestamp"]);
    assert_eq!(receipt["timestamp"], kept["timestamp"]);
    assert_eq!(kept["data"], event["data"]);

    let timed = json!({"type": "n", "data": 1, "timestamp": "2020-01-02T03:04:05.678Z"});
    let mut silent = open(&hub, "types=never").await;
    silent.send(&json!({"publish": timed})).await;
    assert_eq!(silent.receive().await["published"]["timestamp"], timed["timestamp"]);
}

#[tokio::test]
async fn an_ack_by_websocket_gets_a_reply() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "").await;
    let id = hub.publish("n", json!(1)).await;
    assert_eq!(receive_ids(&mut socket, 1).await, std::slice::from_ref(&id));
    socket.send(&json!({"ack": id})).await;
    assert_eq!(socket.receive().await, json!({"acked": id}));
}

#[tokio::test]
async fn an_invalid_command_gets_a_problem_and_the_next_command_runs() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "types=never").await;
    let commands = [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("\"subscribe\"", "invalid_json"),
        ("{}", "validation_failed"),
        (r#"{"unsubscribe": {}}"#, "validation_failed"),
        (r#"{"ack": "evt_0000000000001", "subscribe": {}}"#, "validation_failed"),
        (r#"{"subscribe": {"types": ["a..b"]}}"#, "validation_failed"),
        (r#"{"subscribe": {"types": []}}"#, "validation_failed"),
        (r#"{"subscribe": {"type": ["a"]}}"#, "validation_failed"),
        (r#"{"subscribe": {"after": 5}}"#, "validation_failed"),
        (r#"{"ack": "evt_"}"#, "validation_failed"),
        (r#"{"ack": null}"#, "validation_failed"),
        (r#"{"publish": {"data": 1}}"#, "validation_failed"),
        (r#"{"publish": {"type": "a b", "data": 1}}"#, "validation_failed"),
        (r#"{"publish": {"type": "hookhub.own", "data": 1}}"#, "validation_failed"),
        (r#"{"publish": [{"type": "a", "data": 1}]}"#, "validation_failed"),
        (r#"{"publish": {"type": "a", "data": 1, "datum": 1}}"#, "validation_failed"),
    ];
    for (command, code) in commands {
        socket.send_text(command).await;
        let reply = socket.receive().await;
        assert_eq!(reply["error"]["code"], code, "{command}: {reply}");
        for member in ["/error/type", "/error/title", "/error/detail"] {
            assert!(!string_at(&reply, member).is_empty(), "{command}: {reply}");
        }
    }
    let large = json!({"publish": {"type": "a", "data": "x".repeat(256 << 10)}});
    socket.send(&large).await;
    assert_eq!(socket.receive().await["error"]["code"], "payload_too_large");
    socket.send(&json!({"ack": "evt_0000000000001"})).await;
    assert_eq!(socket.receive().await, json!({"acked": "evt_0000000000001"}));
    assert!(hub.list_all("/v1/events").await.is_empty());
}

#[tokio::test]
async fn commands_are_answered_one_by_one_in_order() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "types=never").await;
    let id = |n: usize| format!("evt_{n:013}");
    for n in 0..500 {
        socket.send(&json!({"ack": id(n)})).await;
    }
    for n in 0..500 {
        assert_eq!(socket.receive().await, json!({"acked": id(n)}));
    }
}

#[tokio::test]
async fn a_fragmented_text_is_one_command_even_with_a_ping_in_between() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "").await;
    socket.send_fragmented(&["{\"ack\": \"evt_", "", "0000000", "000001\"}"]).await;
    assert_eq!(socket.receive().await, json!({"acked": "evt_0000000000001"}));
    // Frames masked with zeros: a first fragment, a ping, the last fragment.
    socket.send_raw(b"\x01\x88\0\0\0\0{\"ack\": \x89\x82\0\0\0\0hi").await;
    socket.wait_for_pong(b"hi").await;
    socket.send_raw(b"\x80\x94\0\0\0\0\"evt_0000000000002\"}").await;
    assert_eq!(socket.receive().await, json!({"acked": "evt_0000000000002"}));
}

#[tokio::test]
async fn a_ping_gets_a_pong_with_the_same_payload() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "").await;
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        socket.send_message(Message::Ping(payload.to_vec().into())).await;
        socket.wait_for_pong(payload).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let hub = TestHub::start().await;
    for code in [CloseCode::Normal, CloseCode::Library(4_000)] {
        let mut socket = open(&hub, "").await;
        socket.send_message(Message::Close(Some(CloseFrame { code, reason: "done".into() }))).await;
        assert_eq!(socket.wait_for_end().await, u16::from(code));
    }
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn invalid_frames_close_the_socket_with_the_matching_code() {
    let hub = TestHub::start().await;
    let long_ping = [b"\x89\xfe\0\x7e\0\0\0\0", &[0; 126][..]].concat();
    let cases: [(&str, &[u8], u16); 10] = [
        ("binary", b"\x82\x82\0\0\0\0hi", 1003),
        ("binary in pieces", b"\x02\x82\0\0\0\0hi", 1003),
        ("not UTF-8", b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        ("not UTF-8 in pieces", b"\x01\x81\0\0\0\0\xc3\x80\x81\0\0\0\0\x28", 1007),
        ("not masked", b"\x81\x02{}", 1002),
        ("an opcode that does not exist", b"\x83\x80\0\0\0\0", 1002),
        ("a reserved bit", b"\xc1\x80\0\0\0\0", 1002),
        ("a continuation of nothing", b"\x80\x82\0\0\0\0{}", 1002),
        ("a new text before the end of the last", b"\x01\x81\0\0\0\0{\x01\x81\0\0\0\0{", 1002),
        ("a ping longer than it may be", &long_ping, 1002),
    ];
    join_all(cases.map(async |(what, frame, code)| {
        let mut socket = open(&hub, "").await;
        socket.send_raw(frame).await;
        assert_eq!(socket.wait_for_end().await, code, "{what}");
    }))
    .await;
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn a_frame_that_declares_too_many_bytes_closes_the_socket_before_they_arrive() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "").await;
    // A frame that declares four gigabytes.
    socket.send_raw(b"\x81\xff\0\0\0\x01\0\0\0\0\0\0\0\0").await;
    socket.send_raw(&vec![b' '; MAX_MESSAGE_BYTES + 1]).await;
    assert_eq!(socket.wait_for_end().await, 1009);
}

#[tokio::test]
async fn an_oversized_message_closes_the_socket_whole_or_fragmented() {
    let hub = TestHub::start().await;
    let mut socket = open(&hub, "types=never").await;
    socket.send_text(&" ".repeat(MAX_MESSAGE_BYTES)).await;
    assert_eq!(socket.receive().await["error"]["code"], "invalid_json");
    socket.send_text(&" ".repeat(MAX_MESSAGE_BYTES + 1)).await;
    assert_eq!(socket.wait_for_end().await, 1009);

    let mut socket = open(&hub, "types=never").await;
    let (piece, rest) = (" ".repeat(100_000), " ".repeat(MAX_MESSAGE_BYTES - 200_000));
    socket.send_fragmented(&[&piece, &piece, &rest]).await;
    assert_eq!(socket.receive().await["error"]["code"], "invalid_json");
    socket.send_fragmented(&[&piece, &piece, &piece]).await;
    assert_eq!(socket.wait_for_end().await, 1009);
}

#[tokio::test]
async fn without_an_upgrade_the_websocket_url_is_refused_with_the_right_headers() {
    let hub = TestHub::start().await;
    let refused = hub.get("/v1/ws").await;
    assert!(
        string_at(&refused.expect_problem(400, "invalid_header"), "/detail").contains("WebSocket")
    );
    let upgrade = |version: &str| {
        hub.request(Method::GET, "/v1/ws")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", version)
    };
    send_request(upgrade("13")).await.expect_problem(400, "invalid_header");
    let with_key = |request: reqwest::RequestBuilder| {
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    send_request(with_key(upgrade("8"))).await.expect_problem(400, "invalid_header");
    hub.post("/v1/ws", &json!({})).await.expect_problem(405, "method_not_allowed");
    for query in ["types=a..b", "type=a", "named=true"] {
        hub.get(&format!("/v1/ws?{query}")).await.expect_problem(400, "invalid_parameter");
    }
    let stranger = hub.with_key(None).request(Method::GET, "/v1/ws");
    assert_eq!(Socket::open(stranger).await.err(), Some(End::Refused(401)));
    wait_for_connections(&hub, 0).await;
}
