//! Reading events, deliveries and attempts; retries and test events.

use hookhub::domain::time::UnixMillis;
use serde_json::{Value, json};

use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::hub::{TestHub, every};
use crate::support::receiver::{LONG_DELAY, TestReceiver};
use crate::support::waits::{delivery, wait_for_attempts, wait_for_deliveries, wait_for_delivery};

async fn ids(hub: &Client, query: &str) -> Vec<String> {
    hub.list_all(&format!("/v1/events?{query}"))
        .await
        .iter()
        .map(|event| string_at(event, "/id"))
        .collect()
}

#[tokio::test]
async fn events_are_listed_oldest_first_by_type_and_after_a_cursor() {
    let hub = TestHub::start().await;
    let a = hub.publish_many("order.paid", 3).await;
    let b = hub.publish_many("invoice.paid", 2).await;
    let c = hub.publish_many("order.paid.eu", 1).await;
    let all = [a.clone(), b.clone(), c.clone()].concat();
    assert_eq!(ids(&hub, "").await, all);
    assert_eq!(ids(&hub, "types=order.*").await, [a.clone(), c.clone()].concat());
    assert_eq!(ids(&hub, "types=invoice.paid,order.paid.eu").await, [b, c].concat());
    assert_eq!(ids(&hub, &format!("after={}", a[1])).await, all[2..]);
    assert_eq!(ids(&hub, "after=now").await, [""; 0]);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(ids(&hub, "order=desc").await, reversed);
}

#[tokio::test]
async fn every_page_of_events_has_a_next_cursor() {
    let hub = TestHub::start().await;
    let empty = hub.get("/v1/events?after=now").await.expect(200);
    assert!(array_at(&empty, "/data").is_empty());
    let first = hub.publish("a", json!(1)).await;
    let then = hub
        .get(&format!("/v1/events?after={}", string_at(&empty, "/next_cursor")))
        .await
        .expect(200);
    assert_eq!(string_at(&then, "/data/0/id"), first);
    let end = hub
        .get(&format!("/v1/events?after={}", string_at(&then, "/next_cursor")))
        .await
        .expect(200);
    assert_eq!((array_at(&end, "/data").len(), &end["has_more"]), (0, &json!(false)));
    assert_eq!(end["next_cursor"], then["next_cursor"]);
}

#[tokio::test]
async fn an_acknowledged_event_is_listed_at_once() {
    let hub = TestHub::start().await;
    let event = json!({"type": "a", "data": 1});
    for n in 0..20 {
        let key = format!("key-{n}");
        hub.post_idempotent("/v1/events", &key, &event).await.expect(202);
        // A repeat appends nothing, and must not delay later events.
        hub.post_idempotent("/v1/events", &key, &event).await.expect(202);
        let id = hub.publish("b", json!(n)).await;
        assert_eq!(ids(&hub, "types=b").await.last(), Some(&id), "{n}");
    }
}

#[tokio::test]
async fn pages_of_any_size_add_up_to_the_whole_list_in_both_directions() {
    let hub = TestHub::start().await;
    let mut wanted = Vec::new();
    for _ in 0..7 {
        hub.publish_many("other", 3).await;
        wanted.extend(hub.publish_many("n", 5).await);
    }
    for (limit, order) in [(1, "asc"), (7, "asc"), (35, "asc"), (7, "desc"), (35, "desc")] {
        let (mut read, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/events?types=n&limit={limit}&order={order}{after}");
            let page = hub.get(&path).await.expect(200);
            assert!(array_at(&page, "/data").len() <= limit);
            read.extend(array_at(&page, "/data").iter().map(|event| string_at(event, "/id")));
            if page["has_more"] == false {
                break;
            }
            after = format!("&after={}", string_at(&page, "/next_cursor"));
        }
        if order == "desc" {
            read.reverse();
        }
        assert_eq!(read, wanted, "{limit} {order}");
    }
}

#[tokio::test]
async fn a_time_works_as_a_cursor() {
    let hub = TestHub::start().await;
    let id = hub.publish("a", json!(1)).await;
    let accepted = hub.get(&format!("/v1/events/{id}")).await.expect(200);
    let at = UnixMillis::parse(&string_at(&accepted, "/timestamp")).unwrap();
    assert_eq!(ids(&hub, &format!("after={at}")).await, [id]);
    let later = UnixMillis::from_i64(at.as_i64() + 1);
    assert!(ids(&hub, &format!("after={later}")).await.is_empty());
}

#[tokio::test]
async fn deliveries_of_an_event_are_those_of_the_matching_subscriptions() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let (good, bad) = (TestReceiver::start().await, TestReceiver::responding(&[500]).await);
    let delivered = hub.subscribe(&good.subscription_to("a")).await;
    let failed = hub.subscribe(&bad.subscription_to("*")).await;
    hub.subscribe(&good.subscription_to("b")).await;
    let event = hub.publish("a", json!(1)).await;
    hub.subscribe(&good.subscription_to("a")).await;
    wait_for_delivery(&hub, &delivered, &event, "delivered").await;
    wait_for_delivery(&hub, &failed, &event, "retrying").await;

    let response = hub.get(&format!("/v1/events/{event}/deliveries")).await.expect(200);
    let deliveries = array_at(&response, "/data");
    let mut actual: Vec<_> = deliveries
        .iter()
        .map(|one| (string_at(one, "/subscription"), string_at(one, "/status")))
        .collect();
    actual.sort_unstable();
    let mut expected = vec![(delivered, "delivered".to_owned()), (failed, "retrying".to_owned())];
    expected.sort_unstable();
    assert_eq!(actual, expected);
    assert!(deliveries.iter().all(|one| array_at(one, "/attempts").len() == 1));
}

#[tokio::test]
async fn deliveries_outstanding_at_a_deletion_are_cancelled() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut bad = TestReceiver::responding(&[500]).await;
    let subscription = hub.subscribe(&bad.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    bad.next().await;
    wait_for_delivery(&hub, &subscription, &event, "retrying").await;
    hub.delete(&format!("/v1/subscriptions/{subscription}")).await;
    let response = hub.get(&format!("/v1/events/{event}/deliveries")).await.expect(200);
    let deliveries = array_at(&response, "/data");
    assert_eq!(
        (deliveries.len(), string_at(&deliveries[0], "/status")),
        (1, "cancelled".to_owned())
    );
}

#[tokio::test]
async fn deliveries_of_a_subscription_are_listed_newest_first_by_status() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let first = hub.publish("n", json!(0)).await;
    receiver.next().await;
    let ids = hub.publish_many("n", 299).await;
    wait_for_deliveries(&hub, &subscription, "delivered", 299).await;

    let path = format!("/v1/subscriptions/{subscription}/deliveries");
    let all: Vec<_> =
        hub.list_all(&path).await.iter().map(|one| string_at(one, "/event")).collect();
    let mut expected = ids;
    expected.insert(0, first.clone());
    expected.reverse();
    assert_eq!(all, expected);
    let failed = hub.list_all(&format!("{path}?status=retrying")).await;
    assert_eq!((failed.len(), string_at(&failed[0], "/event")), (1, first));
    hub.get(&format!("{path}?status=lost")).await.expect_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_page_of_deliveries_that_ends_at_the_scan_limit_is_continued_without_a_gap() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    // One commit, so that the events are adjacent in the log: the oldest, others, and a page full of the newest.
    let kind = |n: usize| if n == 0 || n >= 750 { "n" } else { "other" };
    let batch: Vec<_> = (0..1_000).map(|n| json!({"type": kind(n), "data": n})).collect();
    hub.post("/v1/events", &Value::from(batch)).await.expect(202);
    hub.publish("other", json!("the newest")).await;
    wait_for_deliveries(&hub, &subscription, "delivered", 251).await;
}

#[tokio::test]
async fn attempts_are_listed_newest_first_by_subscription_event_and_class() {
    let hub = TestHub::start().await;
    let (mut first, mut second) =
        (TestReceiver::responding(&[500, 404, 200]).await, TestReceiver::start().await);
    let failing = hub.subscribe(&first.subscription_to("a")).await;
    let other = hub.subscribe(&second.subscription_to("*")).await;
    let (a, b) = (hub.publish("a", json!(1)).await, hub.publish("b", json!(2)).await);
    first.take(3).await;
    second.take(2).await;
    wait_for_delivery(&hub, &failing, &a, "delivered").await;
    wait_for_delivery(&hub, &other, &b, "delivered").await;
    wait_for_delivery(&hub, &other, &a, "delivered").await;

    let statuses = async |query: &str| -> Vec<u64> {
        let attempts = hub.list_all(&format!("/v1/attempts?{query}")).await;
        attempts.iter().map(|attempt| attempt["status_code"].as_u64().unwrap()).collect()
    };
    assert_eq!(statuses(&format!("subscription={failing}")).await, [200, 404, 500]);
    assert_eq!(statuses(&format!("subscription={failing}&status_class=4xx")).await, [404]);
    assert_eq!(statuses(&format!("event={b}")).await, [200]);
    assert_eq!(statuses("").await.len(), 5);
    assert_eq!(statuses("status_class=5xx").await, [500]);
    let paged = hub.get("/v1/attempts?limit=2").await.expect(200);
    let rest = hub
        .get(&format!("/v1/attempts?limit=3&after={}", string_at(&paged, "/next_cursor")))
        .await
        .expect(200);
    assert_eq!((array_at(&rest, "/data").len(), &rest["has_more"]), (3, &json!(false)));
}

#[tokio::test]
async fn an_exhausted_delivery_is_retried_once_on_request() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let once = json!({"retry_schedule_s": [100], "give_up_after_s": 50});
    let definition = merged(receiver.subscription_to("a"), once);
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &subscription, &event, "exhausted").await;
    receiver.next().await;

    let retry = format!("/v1/deliveries/{subscription}/{event}/retry");
    hub.post(&retry, &json!({})).await.expect(202);
    let again = receiver.next().await;
    assert_eq!((again.id, again.attempt), (event.clone(), 2));
    wait_for_delivery(&hub, &subscription, &event, "delivered").await;

    hub.post(&retry, &json!({})).await.expect(202);
    assert_eq!(receiver.next().await.attempt, 3, "a delivered event can be sent again too");
    wait_for_attempts(&hub, &subscription, &event, 3).await;
}

#[tokio::test]
async fn a_waiting_delivery_is_retried_at_once_on_request() {
    let hub = TestHub::start_with(|settings| settings.retry_schedule = every(LONG_DELAY)).await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &subscription, &event, "retrying").await;
    hub.post(&format!("/v1/deliveries/{subscription}/{event}/retry"), &json!({})).await.expect(202);
    assert_eq!(receiver.take(2).await[1].attempt, 2);
    wait_for_delivery(&hub, &subscription, &event, "delivered").await;
}

#[tokio::test]
async fn a_retry_of_a_pending_or_unmatched_delivery_is_refused() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    hub.post(&format!("/v1/subscriptions/{subscription}/pause"), &json!({})).await.expect(200);
    let (parked, other) = (hub.publish("a", json!(1)).await, hub.publish("b", json!(1)).await);
    assert_eq!(delivery(&hub, &subscription, &parked).await.unwrap()["status"], "pending");
    let retry = async |subscription: &str, event: &str| {
        hub.post(&format!("/v1/deliveries/{subscription}/{event}/retry"), &json!({})).await
    };
    retry(&subscription, &parked).await.expect_problem(409, "delivery_pending");
    retry(&subscription, &other).await.expect_problem(404, "not_found");
    retry(&subscription, "evt_0000000000000").await.expect_problem(404, "not_found");
    retry("sub_0000000000000", &parked).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_test_event_goes_only_to_one_subscription() {
    let hub = TestHub::start().await;
    let (mut meant, mut other) = (TestReceiver::start().await, TestReceiver::start().await);
    let subscription = hub.subscribe(&meant.subscription_to("a")).await;
    hub.subscribe(&other.subscription_to("hookhub.test")).await;
    hub.subscribe(&other.subscription_to("*")).await;
    let sent =
        hub.post(&format!("/v1/subscriptions/{subscription}/test"), &json!({})).await.expect(202);
    let delivery = meant.next().await;
    assert_eq!(
        (&delivery.id, string_at(&sent, "/type")),
        (&string_at(&sent, "/id"), "hookhub.test".to_owned())
    );
    let event: Value = serde_json::from_slice(&delivery.body).unwrap();
    assert_eq!(event["type"], "hookhub.test");
    wait_for_delivery(&hub, &subscription, &delivery.id, "delivered").await;

    let sentinel = hub.publish("c", json!(1)).await;
    assert_eq!(other.next().await.id, sentinel);
    assert!(other.drain().is_empty());
}
