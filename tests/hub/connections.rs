//! The list of open streams and waiting polls.

use hookhub::domain::time::UnixMillis;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{array_at, string_at};
use crate::support::eventually;
use crate::support::follower::{Follower, Transport};
use crate::support::hub::TestHub;
use crate::support::sse::SmallBufferStream;
use crate::support::waits::wait_for_connections;

#[tokio::test]
async fn each_stream_and_waiting_poll_is_listed_with_its_event_types_and_position() {
    let hub = TestHub::start().await;
    let acme = hub.acting_for("acme");
    let key = acme.post("/v1/keys", &json!({"name": "ci"})).await.expect(201);
    let acme = hub.with_key(Some(&string_at(&key, "/key")));
    let first = acme.publish("order.paid", json!(1)).await;

    let mut sse = Follower::open(&acme, Transport::Sse, "/v1", "order.*,n", Some("earliest")).await;
    let mut websocket = Follower::open(&acme, Transport::WebSocket, "/v1", "", None).await;
    assert_eq!(sse.next().await.id, first);
    let poll = acme.get("/v1/events?types=hookhub.*&wait=2");
    let look = async {
        let listed = wait_for_connections(&acme, 3).await;
        for one in &listed {
            assert_eq!(one["key"], key["id"]);
            assert_eq!(one["lag_ms"], 0, "{one}");
            assert!(string_at(one, "/id").starts_with("con_"), "{one}");
            let position = string_at(one, "/position");
            assert!(position >= first, "{position} is before {first}");
            let connected_at = UnixMillis::parse(&string_at(one, "/connected_at")).unwrap();
            assert!(connected_at.as_i64() > 1_700_000_000_000);
        }
        let actual: Vec<_> = listed
            .iter()
            .map(|one| (string_at(one, "/transport"), one["event_types"].clone()))
            .collect();
        let expected = [
            ("sse", json!(["order.*", "n"])),
            ("websocket", json!(["*"])),
            ("long_poll", json!(["hookhub.*"])),
        ];
        assert_eq!(actual, expected.map(|(way, types)| (way.to_owned(), types)));
    };
    let (page, ()) = tokio::join!(poll, look);
    page.expect(200);

    let second = acme.publish("order.paid", json!(2)).await;
    assert_eq!([sse.next().await.id, websocket.next().await.id], [second.clone(), second.clone()]);
    let at_second = async || {
        let listed = acme.list_all("/v1/connections").await;
        listed.iter().all(|one| string_at(one, "/position") >= second).then_some(listed)
    };
    assert_eq!(eventually("the positions advance", at_second).await.len(), 2);
}

#[tokio::test]
async fn the_connection_list_shows_the_lag_of_a_stream_that_does_not_read() {
    let hub = TestHub::start().await;
    let mut slow = SmallBufferStream::open(hub.request(Method::GET, "/v1/stream")).await;
    let first = hub.publish("n", json!(1)).await;
    assert_eq!(slow.next().await.id, first);
    let large = "x".repeat(200_000);
    for _ in 0..2 {
        let batch: Vec<_> = (0..20).map(|_| json!({"type": "n", "data": large})).collect();
        hub.post("/v1/events", &Value::from(batch)).await.expect(202);
    }
    let lags = async || {
        let last = hub.publish("n", json!("last")).await;
        let listed = hub.list_all("/v1/connections").await;
        let lag = listed[0]["lag_ms"].as_u64().unwrap();
        (lag > 0 && string_at(&listed[0], "/position") < last).then_some(())
    };
    eventually("the connection lags", lags).await;
}

#[tokio::test]
async fn the_connection_list_omits_connections_of_other_tenants() {
    let hub = TestHub::start().await;
    let _stream = Follower::from_earliest(&hub.acting_for("theirs"), Transport::Sse).await;
    wait_for_connections(&hub.acting_for("theirs"), 1).await;
    assert!(hub.list_all("/v1/connections").await.is_empty());
    assert!(hub.acting_for("ours").list_all("/v1/connections").await.is_empty());
}

#[tokio::test]
async fn pages_of_connections_add_up_to_the_whole_list() {
    let hub = TestHub::start().await;
    let mut open = Vec::new();
    for transport in [Transport::Sse, Transport::WebSocket].repeat(3) {
        open.push(Follower::from_earliest(&hub, transport).await);
    }
    let all = wait_for_connections(&hub, 6).await;
    let mut listed = Vec::new();
    let mut path = "/v1/connections?limit=4".to_owned();
    loop {
        let page = hub.get(&path).await;
        let link = page.header("link").map(ToOwned::to_owned);
        let page = page.expect(200);
        listed.extend_from_slice(array_at(&page, "/data"));
        assert_eq!(link.is_some(), page["has_more"] == true);
        let Some(link) = link else { break };
        path = link.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
    }
    let ids = |list: &[Value]| -> Vec<_> { list.iter().map(|one| string_at(one, "/id")).collect() };
    assert_eq!(ids(&listed), ids(&all));
    hub.get("/v1/connections?after=evt_0000000000000")
        .await
        .expect_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn opening_a_stream_and_listing_connections_need_a_valid_key() {
    let hub = TestHub::start().await;
    for stranger in [hub.with_key(None), hub.with_key(Some("wrong"))] {
        for path in ["/v1/connections", "/v1/stream", "/v1/ws", "/v1/events?wait=60"] {
            stranger.get(path).await.expect_problem(401, "unauthorized");
        }
    }
}
