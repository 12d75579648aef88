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

const SECOND: Duration = Duration::from_secs(1);
/// Delay between two bytes of a client that sends byte by byte.
const PAUSE: Duration = Duration::from_millis(50);
/// Time limit for an action that takes a second, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A hub whose client deadlines are one second.
async fn impatient() -> TestHub {
    TestHub::start_with(|settings| {
        settings.client_timeouts = ClientTimeouts { head: SECOND, body: SECOND, idle: SECOND };
    })
    .await
}

/// The bytes that a client sends at once, and the bytes that it then sends one by one.
#[derive(Debug, Clone, Copy)]
struct Slow {
    at_once: &'static str,
    drip: &'static str,
    /// Number of responses before the refusal.
    answers: usize,
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n";
const SLOW_HEADS: [Slow; 3] = [
    Slow { at_once: "", drip: "GET /healthz?aaaaaaaaaa", answers: 0 },
    Slow { at_once: "GET / HTTP/1.1\r\n", drip: "x: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n", answers: 0 },
    // The first request is complete at once.
    Slow { at_once: HEALTH, drip: "GET /healthz?aaaaaaaaaa", answers: 1 },
];
const SLOW_BODIES: [Slow; 2] = [
    Slow { at_once: "content-length: 5000\r\n\r\n", drip: "[[[[ ", answers: 0 },
    Slow { at_once: "transfer-encoding: chunked\r\n\r\n", drip: "1\r\n[\r\n", answers: 0 },
];

fn slow_body(slow: Slow) -> String {
    let request_line = "POST /v1/events HTTP/1.1";
    request_head(request_line, &["content-type: application/json"]) + slow.at_once
}

/// Sends byte by byte until the hub closes the connection; returns the last response.
async fn drip(hub: SocketAddr, at_once: &str, slow: Slow) -> Response {
    let client = RawClient::connect_and_send(hub, at_once).await;
    let mut received = client.send_slowly(slow.drip.as_bytes(), PAUSE).await;
    for _ in 0..slow.answers {
        let (response, length) = parse_response(&received).expect("an answer");
        response.expect(200);
        received.drain(..length);
    }
    parse_response(&received).expect("an answer").0
}

#[tokio::test]
async fn many_slow_clients_block_nobody_and_each_is_closed_at_its_deadline() {
    let hub = impatient().await;
    let mut slow = JoinSet::new();
    for n in 0..200 {
        let (address, which) = (hub.address(), n % 5);
        let heads = SLOW_HEADS.into_iter().map(|slow| (slow.at_once.to_owned(), slow));
        let bodies = SLOW_BODIES.into_iter().map(|slow| (slow_body(slow), slow));
        let (at_once, one) = heads.chain(bodies).nth(which).unwrap();
        slow.spawn(async move {
            let began = Instant::now();
            (drip(address, &at_once, one).await, began.elapsed())
        });
    }
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let began = Instant::now();
        hub.publish("a", json!(n)).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < SECOND, "a publish took {slowest:?}");
    let ended = in_time("all are ended", slow.join_all()).await;
    assert_eq!(ended.len(), 200);
    for (response, took) in ended {
        let problem = response.expect_problem(408, "request_timeout");
        assert!(string_at(&problem, "/detail").contains("within 1 s"), "{problem}");
        assert!((SECOND..SOON).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let hub = impatient().await;
    let began = Instant::now();
    let received = RawClient::connect(hub.address()).await.wait_for_end().await;
    parse_response(&received).unwrap().0.expect_problem(408, "request_timeout");
    assert!((SECOND..SOON).contains(&began.elapsed()));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let hub = impatient().await;
    let began = Instant::now();
    let mut client = RawClient::connect_and_send(hub.address(), HEALTH).await;
    client.receive().await.expect(200);
    assert!(client.wait_for_end().await.is_empty());
    assert!(began.elapsed() < SOON);
    // A connection in use stays open.
    let mut client = RawClient::connect(hub.address()).await;
    for _ in 0..6 {
        client.send(HEALTH.as_bytes()).await;
        client.receive().await.expect(200);
        tokio::time::sleep(SECOND / 4).await;
    }
}

/// The deadline applies to the request head, not to the response.
#[tokio::test]
async fn a_response_may_take_longer_than_the_deadline_of_the_request_head() {
    let hub = impatient().await;
    let request = request_head("GET /v1/events?after=now&wait=3 HTTP/1.1", &[]) + "\r\n";
    let mut client = RawClient::connect_and_send(hub.address(), &request).await;
    client.receive().await.expect(200);
    let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws")).await.unwrap();
    let stream = request_head("GET /v1/stream HTTP/1.1", &[]) + "\r\n";
    let mut stream = RawClient::connect_and_send(hub.address(), &stream).await;
    stream.receive().await;
    tokio::time::sleep(SECOND * 2).await;
    let id = hub.publish("a", json!(1)).await;
    assert_eq!(string_at(&socket.receive().await, "/id"), id);
    wait_for_connections(&hub, 2).await;
}

/// Flask-WebSub first connects to the hub by TLS, and waits three seconds for the result.
#[tokio::test]
async fn connections_that_speak_another_protocol_are_closed_at_once() {
    let hub = TestHub::start().await;
    let tls = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 506]].concat();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_vec();
    let socks = b"\x05\x01\x00".to_vec();
    let ssh = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    for hello in [tls, http2, socks, ssh] {
        let began = Instant::now();
        let mut client = RawClient::connect(hub.address()).await;
        client.send(&hello).await;
        let received = client.wait_for_end().await;
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        let received = String::from_utf8(received).unwrap();
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 400 "), "{received}");
    }
}

#[tokio::test]
async fn a_websocket_message_sent_byte_by_byte_closes_the_socket() {
    let hub = impatient().await;
    let frame: &[u8] = b"\x81\xfe\x10\x00\x00\x00\x00\x00{\"ack\": ";
    let pieces = |n: usize| -> &'static [u8] {
        // A text frame of one byte that is to be continued, then endless empty continuation frames.
        if n == 0 { b"\x01\x81\0\0\0\0{" } else { b"\x00\x80\0\0\0\0" }
    };
    for in_pieces in [false, true] {
        let mut socket = Socket::open(hub.request(Method::GET, "/v1/ws")).await.unwrap();
        let began = Instant::now();
        let code = in_time("it is closed", async {
            for n in 0.. {
                let whole = pieces(n);
                let one = frame.get(n..=n).unwrap_or(b" ");
                if let Err(End::Closed(code)) =
                    socket.send_raw_and_check(if in_pieces { whole } else { one }).await
                {
                    return code;
                }
                tokio::time::sleep(PAUSE).await;
            }
            unreachable!("without end")
        })
        .await;
        assert_eq!(code, 1008);
        assert!((SECOND..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

/// HTTP/1.0 has no chunks: a body of unknown length ends with its connection (RFC 9112, section 6.1).
#[tokio::test]
async fn an_http_1_0_stream_ends_with_its_connection() {
    let hub = TestHub::start_with(|settings| settings.stop_deadline = SECOND).await;
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
    let hub = TestHub::start_with(|settings| settings.stop_deadline = SECOND * 30).await;
    let mut slow = SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await;
    let first = hub.publish("n", json!(1)).await;
    assert_eq!(slow.next().await.id, first);
    let large = "x".repeat(200_000);
    for _ in 0..4 {
        let batch: Vec<_> = (0..20).map(|_| json!({"type": "n", "data": large})).collect();
        hub.post("/v1/events", &Value::from(batch)).await.expect(202);
    }
    // A client whose responses wait as well: it sends requests and reads nothing.
    let request = request_head("GET /v1/events?limit=50 HTTP/1.1", &[]) + "\r\n";
    let _greedy = RawClient::connect_and_send(hub.address(), &request.repeat(10)).await;
    let began = Instant::now();
    in_time("it stops", hub.stop()).await;
    assert!(began.elapsed() < SECOND * 20, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_sent_byte_by_byte_does_not_delay_a_shutdown() {
    let hub = TestHub::start_with(|settings| {
        settings.stop_deadline = SECOND * 30;
        settings.client_timeouts.body = SECOND * 60;
    })
    .await;
    let request =
        request_head("POST /v1/events HTTP/1.1", &["content-length: 5000", "expect: 100-continue"]);
    let mut client = RawClient::connect_and_send(hub.address(), &(request + "\r\n")).await;
    assert_eq!(client.receive().await.status, 100);
    let mut dripping = JoinSet::new();
    dripping.spawn(client.send_slowly(b"[[[[", PAUSE));
    let began = Instant::now();
    in_time("it stops", hub.stop()).await;
    assert!(began.elapsed() < SECOND * 20, "{:?}", began.elapsed());
    let received = in_time("the refusal arrives", dripping.join_next()).await.unwrap().unwrap();
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
    in_time("both are done", async { tokio::join!(flood, others) }).await;
}

#[tokio::test]
async fn an_endless_chunked_body_keeps_no_connection_after_the_response() {
    let hub = TestHub::start_with(|settings| {
        settings.client_timeouts = ClientTimeouts { head: SECOND, body: SECOND, idle: SECOND };
    })
    .await;
    for (path, status) in [("/v1/events", 408), ("/healthz", 405)] {
        let request =
            request_head(&format!("POST {path} HTTP/1.1"), &["transfer-encoding: chunked"]);
        let client =
            RawClient::connect_and_send(hub.address(), &(request + "\r\n5\r\n{\"typ")).await;
        let (response, _) = parse_response(&client.wait_for_end().await).unwrap();
        assert_eq!(response.status, status);
    }
}
