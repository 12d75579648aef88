//! Reading the log by short poll, long poll, Server-Sent Events and WebSocket: every transport gives the same
//! guarantees.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hookhub::domain::position::Position;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::client::{Client, array_at, string_at};
use crate::support::database::Database;
use crate::support::follower::{End, Follower, ReceivedEvent, Transport, for_every_transport};
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::in_time;
use crate::support::process::{Environment, HubProcess};
use crate::support::unreliable_proxy::UnreliableProxy;
use crate::support::waits::wait_for_connections;

for_every_transport!(
    without_a_position_polls_start_at_the_oldest_event_and_streams_at_the_newest,
    reading_from_the_oldest_event_during_publishing_loses_and_duplicates_no_event,
    reading_after_an_event_returns_the_events_that_follow_it,
    reading_from_a_time_returns_the_events_of_that_time_and_later,
    only_events_of_the_requested_types_are_returned,
    events_of_other_tenants_are_never_returned,
    the_hubs_own_events_are_returned_only_to_readers_that_name_them,
    every_reader_gets_the_same_bytes_as_reading_the_event_by_id,
    events_of_the_maximum_size_are_returned_whole,
    fifty_readers_that_reconnect_after_a_few_events_read_every_event_once,
    connections_cut_at_any_byte_lose_and_duplicate_no_event,
    readers_that_resume_after_kill_9_of_the_hub_miss_no_event,
);

/// Publishes in many small commits and returns all ids.
async fn publish_on(hub: &Client, event_type: &str, commits: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..commits {
        ids.extend(hub.publish_many(event_type, 1 + n % 4).await);
    }
    ids
}

/// Reads the ids of all events before the first event `end`, reconnecting as often as needed.
async fn read_ids_until_end(mut follower: Follower) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let event = follower.next_with_reconnects().await;
        if event.event_type == "end" {
            return ids;
        }
        ids.push(event.id);
    }
}

async fn without_a_position_polls_start_at_the_oldest_event_and_streams_at_the_newest(
    transport: Transport,
) {
    let hub = TestHub::start().await;
    let old = hub.publish("n", json!("old")).await;
    let mut follower = Follower::open(&hub, transport, "/v1", "", None).await;
    let new = hub.publish("n", json!("new")).await;
    let expected = if transport.starts_live() { vec![new] } else { vec![old, new] };
    assert_eq!(follower.next_ids(expected.len()).await, expected);
}

async fn reading_from_the_oldest_event_during_publishing_loses_and_duplicates_no_event(
    transport: Transport,
) {
    let hub = TestHub::start().await;
    let mut published = hub.publish_many("n", 1_200).await;
    let begun = watch::Sender::new(0_usize);
    let publish = async {
        let mut ids = Vec::new();
        for wanted in 0..8 {
            // Publishes the next events when the readers are halfway: some readers start during these.
            let mut seen = begun.subscribe();
            in_time("readers have read events", seen.wait_for(|actual| *actual >= wanted * 150))
                .await
                .expect("the number of batches");
            ids.extend(publish_on(&hub, "n", 10).await);
        }
        hub.publish("end", json!(0)).await;
        ids
    };
    let follow = async || {
        let mut follower = Follower::from_earliest(&hub, transport).await;
        let mut actual = Vec::new();
        loop {
            let event = follower.next().await;
            if event.event_type == "end" {
                return actual;
            }
            actual.push(event.id);
            begun.send_modify(|most| *most = actual.len().max(*most));
        }
    };
    let (later, actual) = tokio::join!(publish, join_all((0..8).map(|_| follow())));
    published.extend(later);
    for actual in actual {
        assert_eq!(actual, published);
    }
}

async fn reading_after_an_event_returns_the_events_that_follow_it(transport: Transport) {
    let hub = TestHub::start().await;
    let passed = hub.publish_many("n", 10).await;
    let mut expected = hub.publish_many("n", 20).await;
    let last = passed.last().map(String::as_str);
    let mut follower = Follower::open(&hub, transport, "/v1", "", last).await;
    let actual = follower.next_ids(20).await;
    expected.push(hub.publish("n", json!("new")).await);
    assert_eq!([actual, follower.next_ids(1).await].concat(), expected);
}

async fn reading_from_a_time_returns_the_events_of_that_time_and_later(transport: Transport) {
    let hub = TestHub::start().await;
    let ids = publish_on(&hub, "n", 10).await;
    let time = |id: &String| id.parse::<Position>().expect("an id").time();
    let since = time(ids.get(10).expect("more than ten"));
    let expected: Vec<_> = ids.iter().filter(|id| time(id) >= since).cloned().collect();
    let mut follower = Follower::open(&hub, transport, "/v1", "", Some(&since.to_string())).await;
    assert_eq!(follower.next_ids(expected.len()).await, expected);
}

async fn only_events_of_the_requested_types_are_returned(transport: Transport) {
    let hub = TestHub::start().await;
    let types = ["order.paid", "invoice.sent", "order.paid.eu", "order", "invoice.sent.late"];
    let requested = "order.*,invoice.sent,end";
    let mut early = Follower::open(&hub, transport, "/v1", requested, Some("earliest")).await;
    for round in 0..40 {
        let batch: Vec<_> = types.iter().map(|name| json!({"type": name, "data": round})).collect();
        hub.post("/v1/events", &Value::from(batch)).await.expect(202);
    }
    let mut late = Follower::open(&hub, transport, "/v1", requested, Some("earliest")).await;
    hub.publish("end", json!(0)).await;
    let expected = ["order.paid", "invoice.sent", "order.paid.eu"].repeat(40);
    for follower in [&mut early, &mut late] {
        let actual: Vec<_> =
            follower.read_until("end").await.into_iter().map(|one| one.event_type).collect();
        assert_eq!(actual, expected);
    }
}

async fn events_of_other_tenants_are_never_returned(transport: Transport) {
    let hub = TestHub::start().await;
    let (ours, theirs) = (hub.acting_for("ours"), hub.acting_for("theirs"));
    theirs.publish("n", json!("theirs")).await;
    let mut live = Follower::from_earliest(&ours, transport).await;
    let mut expected = Vec::new();
    for n in 0..20 {
        theirs.publish("n", json!(n)).await;
        expected.push(ours.publish("n", json!(n)).await);
    }
    let mut late = Follower::from_earliest(&ours, transport).await;
    theirs.publish("end", json!(0)).await;
    ours.publish("end", json!(0)).await;
    for follower in [&mut live, &mut late] {
        let actual: Vec<_> =
            follower.read_until("end").await.into_iter().map(|one| one.id).collect();
        assert_eq!(actual, expected);
    }
}

async fn the_hubs_own_events_are_returned_only_to_readers_that_name_them(transport: Transport) {
    let hub = TestHub::start().await;
    let mut all = Follower::open(&hub, transport, "/v1", "*", Some("earliest")).await;
    let mut own = Follower::open(&hub, transport, "/v1", "hookhub.*,end", Some("earliest")).await;
    let definition = json!({"event_types": ["n"], "callback_url": "http://127.0.0.1:9009/"});
    let subscription = hub.subscribe(&definition).await;
    hub.publish("n", json!(1)).await;
    hub.delete(&format!("/v1/subscriptions/{subscription}")).await;
    hub.publish("end", json!(0)).await;
    let types = |events: Vec<_>| -> Vec<String> {
        events.into_iter().map(|event: ReceivedEvent| event.event_type).collect()
    };
    assert_eq!(types(all.read_until("end").await), ["n"]);
    let actual = types(own.read_until("end").await);
    assert_eq!(actual, ["hookhub.subscription.created", "hookhub.subscription.deleted"]);
}

async fn every_reader_gets_the_same_bytes_as_reading_the_event_by_id(transport: Transport) {
    let hub = TestHub::start().await;
    let mut live = Follower::from_earliest(&hub, transport).await;
    let texts = [
        r#"{"z":1,"a":2,"m":{"b":[],"a":{}}}"#,
        "1.0e+2",
        "123456789012345678901234567890.000000000000000000010",
        "-0",
        r#""\u0000\u001f\"\\\/ü𝄞\ud834\udd1e""#,
        "\"a\u{2028}b\u{2029}c\u{85}d\u{feff}\"",
        r#"["", null, true, [[[]]], "\r\n", "data: x"]"#,
        r#"{"":"","a":1,"a ":2}"#,
    ];
    for data in texts {
        let body = format!(r#"{{"type":"n","data":{data}}}"#);
        let response = hub.send_text(Method::POST, "/v1/events", "application/json", &body).await;
        response.expect(202);
    }
    let mut late = Follower::from_earliest(&hub, transport).await;
    for data in texts {
        let (live_event, late_event) = (live.next().await, late.next().await);
        let by_id = hub.get(&format!("/v1/events/{}", live_event.id)).await;
        by_id.expect(200);
        assert_eq!((&live_event.json, &late_event.json), (&by_id.body, &by_id.body));
        let end = format!(r#""data":{data}}}"#);
        assert!(live_event.json.ends_with(&end), "{}", live_event.json);
    }
}

async fn events_of_the_maximum_size_are_returned_whole(transport: Transport) {
    let hub = TestHub::start().await;
    let mut live = Follower::from_earliest(&hub, transport).await;
    // Sizes at which a WebSocket frame changes the form of its length, and the largest size.
    let sizes = [1, 125, 126, 65_535, 65_536, (256 << 10) - 2];
    for size in sizes {
        hub.publish("n", json!("x".repeat(size))).await;
    }
    let mut late = Follower::from_earliest(&hub, transport).await;
    for size in sizes {
        for follower in [&mut live, &mut late] {
            assert_eq!(follower.next().await.data.as_str().map(str::len), Some(size));
        }
    }
}

async fn fifty_readers_that_reconnect_after_a_few_events_read_every_event_once(
    transport: Transport,
) {
    let hub = TestHub::start().await;
    let follow = async |seed: usize| {
        let mut follower = Follower::from_earliest(&hub, transport).await;
        let mut actual = Vec::new();
        loop {
            let event = follower.next().await;
            if event.event_type == "end" {
                return actual;
            }
            actual.push(event.id);
            if (actual.len() * 31 + seed * 17).is_multiple_of(13) {
                follower.disconnect();
            }
        }
    };
    let publish = async {
        let published = publish_on(&hub, "n", 120).await;
        hub.publish("end", json!(0)).await;
        published
    };
    let (published, actual) = tokio::join!(publish, join_all((0..50).map(follow)));
    for actual in actual {
        assert_eq!(actual, published);
    }
}

async fn connections_cut_at_any_byte_lose_and_duplicate_no_event(transport: Transport) {
    let hub = TestHub::start().await;
    let response_bytes = |n: u64| 250 + 575 * (n % 7);
    let proxy = UnreliableProxy::to(hub.address(), response_bytes).await;
    let client = Client::new(proxy.address, ADMIN_KEY);
    let follow = async || {
        let follower = Follower::unconnected(&client, transport, "/v1", "", Some("earliest"));
        read_ids_until_end(follower).await
    };
    let publish = async {
        let published = publish_on(&hub, "n", 80).await;
        hub.publish("end", json!(0)).await;
        published
    };
    let (published, actual) = tokio::join!(publish, join_all((0..8).map(|_| follow())));
    for actual in actual {
        assert_eq!(actual, published);
    }
    let connections = proxy.connections();
    assert!(connections > 8 * 8, "only {connections} connections");
}

async fn readers_that_resume_after_kill_9_of_the_hub_miss_no_event(transport: Transport) {
    let data_dir = tempfile::tempdir().expect("a directory");
    let database = Database::create().await;
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    let hub = HubProcess::start(&environment).await;
    let environment = environment.with("HOOKHUB_LISTEN", &hub.address.to_string());
    let client = hub.client.clone();
    let accepted = watch::Sender::new(0_usize);
    let publish = async {
        while *accepted.borrow() < 300 {
            let event = json!({"type": "n", "data": 1}).to_string();
            let request = client.request(Method::POST, "/v1/events");
            let request = request.header("content-type", "application/json").body(event);
            match request.send().await {
                Ok(response) if response.status() == 202 => {
                    accepted.send_modify(|count| *count += 1);
                }
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let restart = async {
        in_time(
            "half of the events are accepted",
            accepted.subscribe().wait_for(|count| *count >= 150),
        )
        .await
        .expect("the number of batches");
        hub.program.kill().await;
        HubProcess::start(&environment).await
    };
    let follow =
        async || read_ids_until_end(Follower::from_earliest(&client, transport).await).await;
    let publish_and_restart = async {
        let ((), hub) = tokio::join!(publish, restart);
        hub.client.publish("end", json!(0)).await;
        hub
    };
    let (hub, actual) = tokio::join!(publish_and_restart, join_all((0..8).map(|_| follow())));
    let kept: Vec<_> = client
        .list_all("/v1/events?types=n")
        .await
        .iter()
        .map(|event| string_at(event, "/id"))
        .collect();
    for actual in actual {
        assert_eq!(actual, kept);
    }
    hub.program.kill().await;
}

#[tokio::test]
async fn shutdown_ends_streams_with_a_resume_point_and_answers_waiting_polls() {
    // The hub ends many streams over half of this time, which leaves the other half to a busy machine.
    const STOP_DEADLINE: Duration = Duration::from_secs(16);
    let hub = TestHub::start_with(|settings| settings.stop_deadline = STOP_DEADLINE).await;
    let first = hub.publish("n", json!(1)).await;
    let mut streams = Vec::new();
    for transport in [Transport::Sse, Transport::WebSocket].repeat(40) {
        let mut stream = Follower::from_earliest(&hub, transport).await;
        stream.next().await;
        streams.push((stream, transport));
    }
    let client = hub.clone();
    let polls = join_all((0..20).map(|_| client.get("/v1/events?after=now&wait=60")));
    let stop = async {
        wait_for_connections(&client, 100).await;
        let started = Instant::now();
        hub.stop().await;
        started.elapsed()
    };
    let ends = join_all(
        streams
            .iter_mut()
            .map(async |(stream, transport)| (stream.wait_for_end().await, *transport)),
    );
    let (took, ends, polls) = tokio::join!(stop, ends, polls);
    assert!(took < STOP_DEADLINE, "{took:?}");
    for (end, transport) in ends {
        let expected = if transport == Transport::Sse { End::Clean } else { End::Closed(1001) };
        assert_eq!(end, expected);
    }
    for poll in polls {
        let page = poll.expect(200);
        assert_eq!((&page["data"], &page["next_cursor"]), (&json!([]), &json!(first)));
    }
}

#[tokio::test]
async fn shutdown_with_few_streams_is_fast_whatever_the_deadline() {
    let hub =
        TestHub::start_with(|settings| settings.stop_deadline = Duration::from_secs(3_600)).await;
    let mut sse = Follower::from_earliest(&hub, Transport::Sse).await;
    let mut websocket = Follower::from_earliest(&hub, Transport::WebSocket).await;
    let client = hub.clone();
    let poll = client.get("/v1/events?wait=60");
    let stop = async {
        wait_for_connections(&client, 3).await;
        let started = Instant::now();
        hub.stop().await;
        started.elapsed()
    };
    let (took, poll, sse, websocket) =
        tokio::join!(stop, poll, sse.wait_for_end(), websocket.wait_for_end());
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(array_at(&poll.expect(200), "/data").is_empty());
    assert_eq!((sse, websocket), (End::Clean, End::Closed(1001)));
}

#[tokio::test]
async fn readers_that_resume_after_a_graceful_restart_miss_no_event() {
    let mut hub = TestHub::start().await;
    let (address, client) = (hub.address(), hub.clone());
    let transports =
        [Transport::ShortPoll, Transport::LongPoll, Transport::Sse, Transport::WebSocket];
    let follow = async |transport| {
        read_ids_until_end(Follower::from_earliest(&client, transport).await).await
    };
    let publish = async {
        let mut published = Vec::new();
        for _ in 0..3 {
            published.extend(publish_on(&hub, "n", 20).await);
            let database = hub.stop().await;
            hub = TestHub::start_on(&database, |settings| settings.listen = address).await;
        }
        hub.publish("end", json!(0)).await;
        published
    };
    let (published, actual) =
        tokio::join!(publish, join_all(transports.repeat(3).into_iter().map(follow)));
    for actual in actual {
        assert_eq!(actual, published);
    }
}
