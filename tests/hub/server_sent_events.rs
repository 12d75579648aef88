//! Server-Sent Events: the behaviour that browsers and proxies rely on.

use std::time::Duration;

use hookhub::domain::access::quota::StreamLimits;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::aging::{age, all_aged};
use crate::support::client::{Client, send_request, string_at};
use crate::support::follower::End;
use crate::support::hub::TestHub;
use crate::support::sse::{EventSource, SmallBufferStream};
use crate::support::waits::wait_for_connections;
use crate::support::websocket::Socket;
use crate::support::{eventually, in_time};

async fn open(hub: &Client, query: &str) -> EventSource {
    let request = hub.request(Method::GET, &format!("/v1/stream?{query}"));
    in_time("a connection", EventSource::open(request)).await.expect("a stream")
}

#[tokio::test]
async fn a_stream_starts_at_once_with_its_content_type_and_retry_delay() {
    let hub = TestHub::start().await;
    let mut stream = open(&hub, "").await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.headers()[name], value);
    }
    assert!(!stream.headers().contains_key("content-length"));
    // Nothing is published, and heartbeats are seconds away.
    in_time("first bytes", stream.read()).await.unwrap();
    assert!((1_000..=2_000).contains(&stream.retry_ms().unwrap()));
}

#[tokio::test]
async fn a_stream_cut_before_its_first_event_resumes_where_it_began() {
    let hub = TestHub::start().await;
    let mut stream = open(&hub, "types=a").await;
    in_time("first bytes", stream.read()).await.unwrap();
    let began = stream.last_id().to_owned();
    drop(stream);
    let missed = hub.publish("a", json!(1)).await;
    let mut again = open(&hub, &format!("types=a&last_event_id={began}")).await;
    assert_eq!(in_time("the missed events", again.next()).await.unwrap().id, missed);
}

#[tokio::test]
async fn an_empty_last_event_id_is_ignored() {
    let hub = TestHub::start().await;
    let first = hub.publish("a", json!(1)).await;
    hub.publish("a", json!(2)).await;
    let mut live = open(&hub, "last_event_id=&after=").await;
    let mut resumed = open(&hub, &format!("last_event_id=&after={first}")).await;
    let last = hub.publish("a", json!(3)).await;
    assert_eq!(in_time("an event", live.next()).await.unwrap().id, last);
    assert_ne!(
        in_time("an event", resumed.next()).await.unwrap().id,
        last,
        "the event after the first one"
    );
}

#[tokio::test]
async fn streams_get_different_retry_delays() {
    let hub = TestHub::start().await;
    let mut delays = Vec::new();
    for _ in 0..10 {
        let mut stream = open(&hub, "").await;
        in_time("first bytes", stream.read()).await.unwrap();
        delays.extend(stream.retry_ms());
    }
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 3, "{delays:?}");
}

#[tokio::test]
async fn an_event_is_one_data_line_with_its_id_and_its_type_on_request() {
    let hub = TestHub::start().await;
    let (mut plain, mut named) = (open(&hub, "").await, open(&hub, "named=true").await);
    let mut unnamed = open(&hub, "named=false").await;
    let id = hub.publish("order.paid", json!("a\nb\r\nc")).await;
    let expected = hub.get(&format!("/v1/events/{id}")).await.body;
    for (stream, event) in
        [(&mut plain, "message"), (&mut named, "order.paid"), (&mut unnamed, "message")]
    {
        let message = in_time("an event", stream.next()).await.unwrap();
        assert_eq!(
            (message.id, &*message.event, message.data),
            (id.clone(), event, expected.clone())
        );
    }
    hub.get("/v1/stream?named=yes").await.expect_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn head_on_a_stream_is_answered_without_a_body() {
    let hub = TestHub::start().await;
    let head = send_request(hub.request(Method::HEAD, "/v1/stream")).await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn the_last_event_id_header_precedes_last_event_id_which_precedes_after() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 5).await;
    let first_of = async |header: Option<&str>, query: &str| {
        let mut request = hub.request(Method::GET, &format!("/v1/stream?{query}"));
        if let Some(id) = header {
            request = request.header("last-event-id", id);
        }
        let mut stream = EventSource::open(request).await.unwrap();
        in_time("an event", stream.next()).await.unwrap().id
    };
    let both = format!("last_event_id={}&after={}", ids[1], ids[2]);
    assert_eq!(first_of(Some(&ids[0]), &both).await, ids[1]);
    assert_eq!(first_of(None, &both).await, ids[2]);
    assert_eq!(first_of(Some(""), &both).await, ids[2], "an empty Last-Event-ID has no effect");
    assert_eq!(first_of(None, &format!("after={}", ids[2])).await, ids[3]);
    assert_eq!(first_of(None, "last_event_id=earliest&after=now").await, ids[0]);
}

/// Checks that a stream begins with a gap event and continues with the oldest event.
async fn begins_with_a_gap(
    mut stream: EventSource,
    reason: &str,
    requested: &str,
    kept: &[String],
) {
    let gap = in_time("a gap event", stream.next()).await.expect("a gap event");
    let gap_event: Value = serde_json::from_str(&gap.data).expect("JSON");
    assert_eq!(string_at(&gap_event, "/type"), "hookhub.gap");
    assert_eq!(
        gap_event.get("data"),
        Some(&json!({"reason": reason, "requested": requested, "earliest": kept.first()}))
    );
    assert_eq!(string_at(&gap_event, "/id"), gap.id);
    for id in kept {
        assert!(gap.id < *id, "a client that resumes with the gap's id misses no event");
        assert_eq!(in_time("an event", stream.next()).await.expect("an event").id, *id);
    }
}

#[tokio::test]
async fn an_unknown_resume_point_gets_a_gap_event_and_the_stream_continues_with_the_oldest_event() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 3).await;
    let future = "evt_7ZZZZZZZZZZZZ";
    for point in [future, "garbage", "evt_", "42", "sub_0000000000000"] {
        for parameter in ["last_event_id", "after"] {
            let stream = open(&hub, &format!("{parameter}={point}")).await;
            begins_with_a_gap(stream, "unknown", point, &ids).await;
        }
        let request = hub.request(Method::GET, "/v1/stream").header("last-event-id", point);
        let stream = EventSource::open(request).await.unwrap();
        begins_with_a_gap(stream, "unknown", point, &ids).await;
    }
    // Invalid UTF-8, and far too long.
    let request = hub.request(Method::GET, "/v1/stream").header("last-event-id", &b"\xff"[..]);
    begins_with_a_gap(EventSource::open(request).await.unwrap(), "unknown", "\u{fffd}", &ids).await;
    let long = "x".repeat(5_000);
    let stream = open(&hub, &format!("after={long}")).await;
    begins_with_a_gap(stream, "unknown", &"x".repeat(64), &ids).await;
}

#[tokio::test]
async fn an_unknown_resume_point_in_an_empty_log_gets_a_gap_event() {
    let hub = TestHub::start().await;
    let mut stream = open(&hub, "after=garbage&types=n").await;
    let gap = in_time("a gap event", stream.next()).await.unwrap();
    let gap_event: Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!(gap_event["data"]["earliest"], Value::Null);
    let id = hub.publish("n", json!(1)).await;
    assert_eq!(in_time("an event", stream.next()).await.unwrap().id, id);
    let mut again = open(&hub, &format!("types=n&last_event_id={}", gap.id)).await;
    assert_eq!(in_time("an event", again.next()).await.unwrap().id, id);
}

#[tokio::test]
async fn an_expired_resume_point_gets_a_gap_event_on_a_stream_and_410_on_a_poll() {
    let hub = TestHub::start().await;
    let old = hub.publish_many("n", 3).await;
    let database = hub.stop().await;
    age(&database, 40).await;
    let old = all_aged(&old, 40);
    let hub = TestHub::start_on(&database, |_| ()).await;
    eventually("the events have expired", async || {
        hub.list_all("/v1/events").await.is_empty().then_some(())
    })
    .await;
    let kept = hub.publish_many("n", 2).await;
    let stream = open(&hub, &format!("after={}", old[0])).await;
    begins_with_a_gap(stream, "expired", &old[0], &kept).await;
    let refused = hub.get(&format!("/v1/events?after={}", old[0])).await;
    assert_eq!(refused.expect_problem(410, "cursor_expired")["earliest"], json!(kept[0]));
    let mut stream = open(&hub, "after=earliest").await;
    assert_eq!(
        in_time("an event", stream.next()).await.unwrap().id,
        kept[0],
        "the stream starts without a gap"
    );
}

#[tokio::test]
async fn a_reader_that_pauses_during_megabytes_of_events_receives_every_event_once() {
    let hub = TestHub::start().await;
    let mut slow = SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await;
    let mut published = vec![hub.publish("n", json!(1)).await];
    let mut met = vec![slow.next().await.id];
    let large = "x".repeat(100_000);
    for _ in 0..4 {
        for _ in 0..40 {
            published.push(hub.publish("n", json!(large)).await);
        }
        // The reader catches up in small parts.
        for _ in 0..20 {
            met.push(in_time("an event", slow.next()).await.id);
        }
    }
    published.extend(hub.publish_many("n", 100).await);
    while met.len() < published.len() {
        met.push(in_time("an event", slow.next()).await.id);
    }
    assert_eq!(met, published);
    let live = hub.publish("n", json!("live again")).await;
    assert_eq!(in_time("an event", slow.next()).await.id, live);
}

#[tokio::test]
async fn a_disconnected_stream_is_dropped_at_once_however_it_disconnects() {
    let hub = TestHub::start().await;
    let stream = open(&hub, "").await;
    wait_for_connections(&hub, 1).await;
    drop(stream);
    wait_for_connections(&hub, 0).await;

    let open_socket = async || {
        let socket =
            SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await.into_socket();
        wait_for_connections(&hub, 1).await;
        socket
    };
    // A connection reset.
    let socket = open_socket().await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    wait_for_connections(&hub, 0).await;
    // A half-closed connection: the client will send nothing more.
    let mut socket = open_socket().await;
    socket.shutdown().await.unwrap();
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn a_stream_that_disconnects_with_megabytes_unread_is_dropped_at_once() {
    let hub = TestHub::start().await;
    let slow = SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await;
    let large = "x".repeat(200_000);
    for _ in 0..40 {
        hub.publish("n", json!(large)).await;
    }
    wait_for_connections(&hub, 1).await;
    drop(slow);
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn open_streams_are_limited_in_total_and_per_key() {
    let hub = TestHub::start_with(|settings| {
        settings.stream_limits = StreamLimits { per_node: 3, per_key: 2, per_address: 3 };
    })
    .await;
    let key = hub.acting_for("acme").post("/v1/keys", &json!({"name": "a"})).await.expect(201);
    let acme = hub.with_key(Some(&string_at(&key, "/key")));
    let refused = async |client: &Client| {
        for path in ["/v1/stream", "/v1/events?wait=60"] {
            let refused = client.get(path).await;
            refused.expect_problem(429, "too_many_connections");
            let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!(seconds > 0);
        }
        let request = client.request(Method::GET, "/v1/ws");
        assert_eq!(Socket::open(request).await.err(), Some(End::Refused(429)));
    };
    let first = open(&acme, "").await;
    let _second = open(&acme, "").await;
    refused(&acme).await;
    let third = open(&hub, "").await;
    refused(&hub).await;
    acme.get("/v1/events").await.expect(200);

    drop(third);
    wait_for_connections(&hub, 0).await;
    refused(&acme).await;
    drop(first);
    wait_for_connections(&acme, 1).await;
    let _again = open(&acme, "").await;
    refused(&acme).await;
}

/// Slow: heartbeats come every 15 seconds.
#[tokio::test]
async fn a_heartbeat_every_15_seconds_moves_the_resume_point_past_events_that_do_not_match() {
    let hub = TestHub::start().await;
    let (mut narrow, mut quiet) = (open(&hub, "types=never").await, open(&hub, "").await);
    let request = hub.request(Method::GET, "/v1/ws?types=never");
    let started = std::time::Instant::now();
    let mut websocket = Socket::open(request).await.unwrap();
    let id = hub.publish("other", json!(1)).await;
    assert_eq!(in_time("an event", quiet.next()).await.unwrap().id, id);
    let moves_on = async {
        while narrow.last_id() != id {
            narrow.read().await.unwrap();
        }
    };
    let comments = async {
        while quiet.comments() == 0 {
            quiet.read().await.unwrap();
        }
    };
    let pings = async {
        while websocket.pings() == 0 {
            tokio::select! {
                end = websocket.next() => panic!("{end:?}"),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        // The second ping comes after 30 s.
        let took = started.elapsed();
        assert!((Duration::from_secs(14)..Duration::from_secs(29)).contains(&took), "{took:?}");
    };
    in_time("heartbeats", async { tokio::join!(moves_on, comments, pings) }).await;
    let resumed = open(&hub, &format!("types=never&last_event_id={}", narrow.last_id())).await;
    assert_eq!(resumed.last_id(), "");
}
