//! Slow and endless clients: each has a deadline, and none blocks other clients.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hookhub::config::ClientTimeouts;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::client::{Response, string_at};
use crate::support::follower::End;
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::raw_client::{RawClient, parse_response, request_head};
use crate::support::sse::SmallBufferStream;
use crate::support::waits::wait_for_connections;
use crate::support::websocket::Socket;

/// Deadline of the clients: long enough for a fast client on a busy machine.
const DEADLINE: Duration = Duration::from_secs(3);
/// Delay between two bytes of a client that sends byte by byte.
const PAUSE: Duration = Duration::from_millis(50);
/// Time limit for the hub to close a client after [`DEADLINE`], on a busy machine.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Stop deadline of the hubs that a client must not delay, and the time in which they stop on a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const MAX_STOP_TIME: Duration = Duration::from_secs(20);

/// A hub that gives its clients [`DEADLINE`] for each part of a request.
async fn hub_with_short_deadlines() -> TestHub {
    TestHub::start_with(|settings| {
        settings.client_timeouts =
            ClientTimeouts { head: DEADLINE, body: DEADLINE, idle: DEADLINE };
    })
    .await
}

/// A client that sends some bytes at once, and then other bytes repeatedly, one by one.
#[derive(Debug, Clone, Copy)]
struct SlowClient {
    sent_first: &'static str,
    repeated: &'static str,
    /// Number of 200 responses before the refusal.
    responses: usize,
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n";
const SLOW_HEADS: [SlowClient; 3] = [
    SlowClient { sent_first: "GET /healthz?", repeated: "a", responses: 0 },
    SlowClient {
        sent_first: "GET / HTTP/1.1\r\n",
        repeated: "x: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        responses: 0,
    },
    // The first request is complete at once.
    SlowClient {
        sent_first: "GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\nGET /healthz?",
        repeated: "a",
        responses: 1,
    },
];
const SLOW_BODIES: [SlowClient; 2] = [
    SlowClient { sent_first: "content-length: 5000\r\n\r\n", repeated: "[[[[ ", responses: 0 },
    SlowClient {
        sent_first: "transfer-encoding: chunked\r\n\r\n",
        repeated: "1\r\n[\r\n",
        responses: 0,
    },
];

fn slow_body(slow: SlowClient) -> String {
    let request_line = "POST /v1/events HTTP/1.1";
    request_head(request_line, &["content-type: application/json"]) + slow.sent_first
}

/// Sends byte by byte until the hub closes the connection; returns the last response.
async fn run_slow_client(hub: SocketAddr, sent_first: &str, slow: SlowClient) -> Response {
    let client = RawClient::connect_and_send(hub, sent_first).await;
    let mut received = client.send_slowly(slow.repeated.as_bytes(), PAUSE).await;
    for _ in 0..slow.responses {
        let (response, length) = parse_response(&received).expect("a response");
        response.expect(200);
        received.drain(..length);
    }
    parse_response(&received).expect("a response").0
}

#[tokio::test]
async fn many_slow_clients_block_no_publish_and_each_is_closed_at_its_deadline() {
    let hub = hub_with_short_deadlines().await;
    let mut slow = JoinSet::new();
    for n in 0..200 {
        let (address, which) = (hub.address(), n % 5);
        let heads = SLOW_HEADS.into_iter().map(|slow| (slow.sent_first.to_owned(), slow));
        let bodies = SLOW_BODIES.into_iter().map(|slow| (slow_body(slow), slow));
        let (sent_first, client) = heads.chain(bodies).nth(which).unwrap();
        slow.spawn(async move {
            let started = Instant::now();
            (run_slow_client(address, &sent_first, client).await, started.elapsed())
        });
    }
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let started = Instant::now();
        hub.publish("a", json!(n)).await;
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < DEADLINE, "a publish took {slowest:?}");
    let closed = in_time("all slow clients are closed", slow.join_all()).await;
    assert_eq!(closed.len(), 200);
    for (response, took) in closed {
        let problem = response.expect_problem(408, "request_timeout");
        assert!(string_at(&problem, "/detail").contains("within 3 s"), "{problem}");
        assert!((DEADLINE..MAX_DELAY).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let hub = hub_with_short_deadlines().await;
    let started = Instant::now();
    let received = RawClient::connect(hub.address()).await.wait_for_end().await;
    parse_response(&received).unwrap().0.expect_problem(408, "request_timeout");
    assert!((DEADLINE..MAX_DELAY).contains(&started.elapsed()));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let hub = hub_with_short_deadlines().await;
    let started = Instant::now();
    let mut client = RawClient::connect_and_send(hub.address(), HEALTH).await;
    client.receive().await.expect(200);
    assert!(client.wait_for_end().await.is_empty());
    assert!(started.elapsed() < MAX_DELAY);
    // A connection in use stays open.
    let mut client = RawClient::connect(hub.address()).await;
    for _ in 0..6 {
        client.send(HEALTH.as_bytes()).await;
        client.receive().await.expect(200);
        tokio::time::sleep(DEADLINE / 4).await;
    }
}

/// The deadline applies to the request head, not to the response.
#[tokio::test]
async fn a_response_may_take_longer_than_the_deadline_of_the_request_head() {
    let hub = hub_with_short_deadlines().await;
    let request = request_head("GET /v1/events?after=now&wait=5 HTTP/1.1", &[]) + "\r\n";
    let mut client = RawClient::connect_and_send(hub.address(), &request).await;
    client.receive().await.expect(200);
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws")).await.unwrap();
    let stream = request_head("GET /v1/stream HTTP/1.1", &[]) + "\r\n";
    let mut stream = RawClient::connect_and_send(hub.address(), &stream).await;
    stream.receive().await;
    tokio::time::sleep(DEADLINE * 2).await;
    let id = hub.publish("a", json!(1)).await;
    assert_eq!(string_at(&socket.receive().await, "/id"), id);
    wait_for_connections(&hub, 2).await;
}

#[tokio::test]
async fn connections_that_speak_another_protocol_are_closed_at_once() {
    /// Flask-WebSub first connects to the hub by TLS, and waits this long for the result.
    const FLASK_WEBSUB_TIMEOUT: Duration = Duration::from_secs(3);
    let hub = TestHub::start().await;
    let tls = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 506]].concat();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_vec();
    let socks = b"\x05\x01\x00".to_vec();
    let ssh = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    for hello in [tls, http2, socks, ssh] {
        let started = Instant::now();
        let mut client = RawClient::connect(hub.address()).await;
        client.send(&hello).await;
        let received = client.wait_for_end().await;
        assert!(started.elapsed() < FLASK_WEBSUB_TIMEOUT, "{:?}", started.elapsed());
        let received = String::from_utf8(received).unwrap();
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 400 "), "{received}");
    }
}

#[tokio::test]
async fn a_websocket_message_sent_byte_by_byte_closes_the_socket() {
    let hub = hub_with_short_deadlines().await;
    let frame: &[u8] = b"\x81\xfe\x10\x00\x00\x00\x00\x00{\"ack\": ";
    let fragment = |n: usize| -> &'static [u8] {
        // A text frame of one byte that is not the last one, then endless empty continuation frames.
        if n == 0 { b"\x01\x81\0\0\0\0{" } else { b"\x00\x80\0\0\0\0" }
    };
    for is_fragmented in [false, true] {
        let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws")).await.unwrap();
        let started = Instant::now();
        let code = in_time("the hub closes the socket", async {
            for n in 0.. {
                let fragment = fragment(n);
                let byte = frame.get(n..=n).unwrap_or(b" ");
                if let Err(End::Closed(code)) =
                    socket.send_raw_and_check(if is_fragmented { fragment } else { byte }).await
                {
                    return code;
                }
                tokio::time::sleep(PAUSE).await;
            }
            unreachable!("an endless loop")
        })
        .await;
        assert_eq!(code, 1008);
        assert!((DEADLINE..MAX_DELAY).contains(&started.elapsed()), "{:?}", started.elapsed());
    }
}

/// HTTP/1.0 has no chunks: a body of unknown length ends with its connection (RFC 9112, section 6.1).
#[tokio::test]
async fn an_http_1_0_stream_ends_with_its_connection() {
    let hub =
        TestHub::start_with(|settings| settings.stop_deadline = Duration::from_secs(10)).await;
    let request = request_head("GET /v1/stream HTTP/1.0", &["connection: keep-alive"]) + "\r\n";
    let mut client = RawClient::connect_and_send(hub.address(), &request).await;
    let response = client.receive().await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("transfer-encoding"), None);
    assert_ne!(response.header("connection"), Some("keep-alive"));
    let id = hub.publish("a", json!(1)).await;
    wait_for_connections(&hub, 1).await;
    let (received, _) = tokio::join!(client.wait_for_end(), hub.stop());
    let received = String::from_utf8(received).unwrap();
    let event = received.split("\n\n").find(|block| block.contains("data:")).expect(&received);
    assert!(event.starts_with(&format!("id: {id}\ndata: {{\"id\":\"{id}\"")), "{received}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_delay_a_shutdown() {
    let hub = TestHub::start_with(|settings| settings.stop_deadline = STOP_DEADLINE).await;
    let mut slow = SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await;
    let first = hub.publish("n", json!(1)).await;
    assert_eq!(slow.next().await.id, first);
    let large = "x".repeat(200_000);
    for _ in 0..4 {
        let batch: Vec<_> = (0..20).map(|_| json!({"type": "n", "data": large})).collect();
        hub.post("/v1/events", &Value::from(batch)).await.expect(202);
    }
    // Another client sends requests and reads no response.
    let request = request_head("GET /v1/events?limit=50 HTTP/1.1", &[]) + "\r\n";
    let _unread = RawClient::connect_and_send(hub.address(), &request.repeat(10)).await;
    let started = Instant::now();
    in_time("the hub stops", hub.stop()).await;
    assert!(started.elapsed() < MAX_STOP_TIME, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_sent_byte_by_byte_does_not_delay_a_shutdown() {
    let hub = TestHub::start_with(|settings| {
        settings.stop_deadline = STOP_DEADLINE;
        settings.client_timeouts.body = STOP_DEADLINE * 2;
    })
    .await;
    let request =
        request_head("POST /v1/events HTTP/1.1", &["content-length: 5000", "expect: 100-continue"]);
    let mut client = RawClient::connect_and_send(hub.address(), &(request + "\r\n")).await;
    assert_eq!(client.receive().await.status, 100);
    let mut sending = JoinSet::new();
    sending.spawn(client.send_slowly(b"[[[[", PAUSE));
    let started = Instant::now();
    in_time("the hub stops", hub.stop()).await;
    assert!(started.elapsed() < MAX_STOP_TIME, "{:?}", started.elapsed());
    let received = in_time("the refusal arrives", sending.join_next()).await.unwrap().unwrap();
    parse_response(&received).unwrap().0.expect_problem(503, "unavailable");
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_affects_no_other_client() {
    let hub = TestHub::start().await;
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws?types=never")).await.unwrap();
    let ping: &[u8] = b"\x89\x84\0\0\0\0ping";
    let flood = async {
        for _ in 0..50 {
            socket.send_raw(&ping.repeat(400)).await;
            socket.wait_for_pongs(400).await;
        }
    };
    let others = join_all((0..20).map(|n| hub.publish("a", json!(n))));
    in_time("both end", async { tokio::join!(flood, others) }).await;
}

#[tokio::test]
async fn an_endless_chunked_body_keeps_no_connection_after_the_response() {
    let hub = hub_with_short_deadlines().await;
    for (path, status) in [("/v1/events", 408), ("/healthz", 405)] {
        let request =
            request_head(&format!("POST {path} HTTP/1.1"), &["transfer-encoding: chunked"]);
        let client =
            RawClient::connect_and_send(hub.address(), &(request + "\r\n5\r\n{\"typ")).await;
        let (response, _) = parse_response(&client.wait_for_end().await).unwrap();
        assert_eq!(response.status, status);
    }
}
