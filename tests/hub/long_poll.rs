//! Long poll: events at once, or an empty page after the wait, always with a cursor.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{array_at, send_request, string_at};
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::waits::wait_for_connections;

#[tokio::test]
async fn a_poll_that_times_out_returns_an_empty_page_with_a_cursor() {
    let hub = TestHub::start().await;
    let last = hub.publish("n", json!(1)).await;
    let page = hub.get("/v1/events?after=now&wait=1").await.expect(200);
    assert_eq!(page, json!({"data": [], "next_cursor": last, "has_more": false}));
}

#[tokio::test]
async fn the_cursor_of_a_poll_moves_past_events_that_do_not_match() {
    let hub = TestHub::start().await;
    let before = hub.publish_many("other", 10).await;
    let poll = hub.get("/v1/events?types=n&after=earliest&wait=2");
    let publish = async {
        wait_for_connections(&hub, 1).await;
        hub.publish_many("other", 10).await
    };
    let (page, during) = tokio::join!(poll, publish);
    let page = page.expect(200);
    assert_eq!(page, json!({"data": [], "next_cursor": during[9], "has_more": false}));
    let page = hub.get("/v1/events?types=n").await.expect(200);
    assert_eq!(page["next_cursor"], json!(during[9]), "also without a wait");
    assert!(before[9] < during[9]);
}

#[tokio::test]
async fn a_poll_with_matching_events_returns_at_once() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 3).await;
    hub.publish("other", json!(1)).await;
    // The wait ends before the client's own timeout of 30 seconds.
    let page = hub.get("/v1/events?types=n&wait=60").await.expect(200);
    let met: Vec<_> =
        array_at(&page, "/data").iter().map(|event| string_at(event, "/id")).collect();
    assert_eq!((met, &page["has_more"]), (ids, &json!(false)));
}

#[tokio::test]
async fn a_publish_wakes_only_the_polls_that_match() {
    let hub = TestHub::start().await;
    let wanted = hub.get("/v1/events?types=n&wait=60");
    let other = hub.get("/v1/events?types=other&wait=8");
    let theirs = hub.acting_for("theirs");
    let foreign = theirs.get("/v1/events?types=n&wait=8");
    let publish = async {
        wait_for_connections(&hub, 2).await;
        wait_for_connections(&theirs, 1).await;
        hub.publish("n", json!("woken")).await
    };
    let (wanted, other, foreign, id) = tokio::join!(wanted, other, foreign, publish);
    let woken = wanted.expect(200);
    assert_eq!(
        (string_at(&woken, "/data/0/id"), string_at(&woken, "/next_cursor")),
        (id.clone(), id)
    );
    for page in [other.expect(200), foreign.expect(200)] {
        assert!(array_at(&page, "/data").is_empty());
    }
    wait_for_connections(&hub, 0).await;
}

#[tokio::test]
async fn a_batch_is_returned_to_a_waiting_poll_whole_up_to_the_limit() {
    let hub = TestHub::start().await;
    let poll = hub.get("/v1/events?wait=60&limit=4");
    let publish = async {
        wait_for_connections(&hub, 1).await;
        hub.publish_many("n", 10).await
    };
    let (page, ids) = tokio::join!(poll, publish);
    let page = page.expect(200);
    let met: Vec<_> =
        array_at(&page, "/data").iter().map(|event| string_at(event, "/id")).collect();
    assert_eq!(met, ids[..4]);
    assert_eq!((&page["next_cursor"], &page["has_more"]), (&json!(ids[3]), &json!(true)));
    let rest = hub.get(&format!("/v1/events?wait=60&after={}", ids[3])).await.expect(200);
    assert_eq!(array_at(&rest, "/data").len(), 6);
}

#[tokio::test]
async fn an_invalid_wait_is_refused_by_name() {
    let hub = TestHub::start().await;
    for query in ["wait=61", "wait=-1", "wait=soon", "wait=1.5", "wait=", "wait=1&order=desc"] {
        let refused = hub.get(&format!("/v1/events?{query}")).await;
        let detail = string_at(&refused.expect_problem(400, "invalid_parameter"), "/detail");
        assert!(detail.starts_with("wait"), "{query}: {detail}");
    }
    hub.get("/v1/events?wait=0&order=desc").await.expect(200);
}

#[tokio::test]
async fn an_invalid_cursor_is_refused_by_name() {
    let hub = TestHub::start().await;
    let id = hub.publish("n", json!(1)).await;
    let cut = id.split_at(id.len() - 1).0.to_owned();
    let cursors = ["evt_7ZZZZZZZZZZZZ", "evt_", "1", "yesterday", "sub_0000000000000", "%FF", &cut];
    for wait in ["0", "60"] {
        for cursor in cursors {
            let refused = hub.get(&format!("/v1/events?wait={wait}&after={cursor}")).await;
            let detail = string_at(&refused.expect_problem(400, "invalid_parameter"), "/detail");
            assert!(detail.starts_with("after"), "{cursor}: {detail}");
        }
    }
    for limit in ["0", "251", "all"] {
        let refused = hub.get(&format!("/v1/events?wait=60&limit={limit}")).await;
        let detail = string_at(&refused.expect_problem(400, "invalid_parameter"), "/detail");
        assert!(detail.starts_with("limit"), "{limit}: {detail}");
    }
}

#[tokio::test]
async fn a_waiting_poll_that_disconnects_is_dropped_at_once() {
    let hub = TestHub::start().await;
    let poll = send_request(hub.request(Method::GET, "/v1/events?wait=60"));
    tokio::select! {
        response = poll => panic!("a response without events: {response:?}"),
        listed = wait_for_connections(&hub, 1) => assert_eq!(listed[0]["transport"], "long_poll"),
    }
    in_time("the connection is closed", wait_for_connections(&hub, 0)).await;
}

#[tokio::test]
async fn polls_without_wait_are_not_listed_as_connections() {
    let hub = TestHub::start_with(|settings| settings.stream_limits.per_node = 0).await;
    let page: Value = hub.get("/v1/events").await.expect(200);
    assert!(array_at(&page, "/data").is_empty());
    hub.get("/v1/events?wait=1").await.expect_problem(429, "too_many_connections");
}
