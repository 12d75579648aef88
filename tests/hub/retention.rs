//! Retention: old days are dropped whole, lagging subscriptions are moved on and get a report, and others are not
//! affected.

use std::time::Duration;

use hookhub::domain::position::Position;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use tokio::time::Instant;

use crate::support::aging::{age, aged, all_aged};
use crate::support::client::{Client, array_at, merged, string_at};
use crate::support::database::Database;
use crate::support::hub::TestHub;
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::sse::EventSource;
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};
use crate::support::{eventually, in_time};

/// Number of partitions of the tables whose day ended more than `days` days ago.
async fn older(database: &Database, table: &str, days: u16) -> i64 {
    let count = format!(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^({table})_[0-9]{{8}}$'
         AND to_date(right(relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - {days}"
    );
    database.query_number(&count).await
}

/// Waits until all expired partitions are dropped.
async fn wait_for_expiry(database: &Database) {
    let gone = async || (older(database, "events|attempts", 30).await == 0).then_some(());
    eventually("old partitions are dropped", gone).await;
}

/// Starts hubs until the first retention round of one has dropped the old partitions. A round that fails, as it may on a
/// busy machine, is repeated only after a minute.
async fn hubs_that_drop_old_partitions(database: &Database) -> Vec<TestHub> {
    let mut hubs = Vec::new();
    let gone = async || {
        for _ in 0..2_000 {
            if older(database, "events|attempts", 30).await == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    while hubs.len() < 5 {
        hubs.push(TestHub::start_on(database, |_| ()).await);
        if gone().await {
            return hubs;
        }
    }
    wait_for_expiry(database).await;
    hubs
}

async fn ids(hub: &Client, path: &str) -> Vec<String> {
    hub.list_all(path).await.iter().map(|event| string_at(event, "/id")).collect()
}

async fn gaps(hub: &Client) -> Vec<Value> {
    hub.list_all("/v1/events?types=hookhub.gap").await
}

async fn wait_for_gap(hub: &Client) -> Value {
    eventually("a gap is reported", async || gaps(hub).await.pop()).await
}

async fn post(hub: &Client, id: &str, what: &str) {
    hub.post(&format!("/v1/subscriptions/{id}/{what}"), &json!({})).await.expect(200);
}

#[tokio::test]
async fn expired_days_are_dropped_whole_and_later_days_stay() {
    let hub = TestHub::start().await;
    let old = hub.publish_many("n", 3).await;
    let database = hub.stop().await;
    age(&database, 25).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let young = hub.publish_many("n", 2).await;
    let database = hub.stop().await;
    age(&database, 10).await;
    let (old, young) = (all_aged(&old, 35), all_aged(&young, 10));

    let hub = TestHub::start_on(&database, |_| ()).await;
    wait_for_expiry(&database).await;
    assert_eq!(ids(&hub, "/v1/events").await, young);
    hub.get(&format!("/v1/events/{}", old[2])).await.expect_problem(404, "not_found");
    let refused = hub.get(&format!("/v1/events?after={}", old[1])).await;
    assert_eq!(refused.expect_problem(410, "cursor_expired")["earliest"], json!(young[0]));
    assert_eq!(ids(&hub, &format!("/v1/events?after={}", old[2])).await, young, "nothing is lost");

    let stream = hub.request(Method::GET, &format!("/v1/stream?last_event_id={}", old[0]));
    let mut stream = EventSource::open(stream).await.unwrap();
    let gap = in_time("a gap event", stream.next()).await.unwrap();
    let notice: Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!(
        notice["data"],
        json!({"reason": "expired", "requested": old[0], "earliest": young[0]})
    );
    for id in &young {
        assert_eq!(&in_time("an event", stream.next()).await.unwrap().id, id);
    }
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&merged(receiver.subscription_to("n"), json!({"from": "earliest"}))).await;
    assert_eq!(sorted(receiver.next_ids(2).await), young);
    assert!(gaps(&hub).await.is_empty(), "no subscription lost an event");
}

#[tokio::test]
async fn a_log_whose_events_have_all_expired_is_empty_and_usable() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let old = hub.publish_many("n", 3).await;
    receiver.take(3).await;
    wait_for_deliveries(&hub, &id, "delivered", 3).await;
    let database = hub.stop().await;
    age(&database, 40).await;
    let old = all_aged(&old, 40);

    for _ in 0..2 {
        let hub = TestHub::start_on(&database, |_| ()).await;
        wait_for_expiry(&database).await;
        let refused = hub.get(&format!("/v1/events?after={}", old[1])).await;
        assert_eq!(refused.expect_problem(410, "cursor_expired").get("earliest"), None);
        for after in ["earliest", "now", &old[2]] {
            let page = hub.get(&format!("/v1/events?after={after}")).await.expect(200);
            assert!(array_at(&page, "/data").is_empty(), "{page}");
        }
        hub.stop().await;
    }
    let hub = TestHub::start_on(&database, |_| ()).await;
    let path = format!("/v1/events?wait=20&after={}", old[2]);
    let (page, new) = tokio::join!(hub.get(&path), hub.publish("n", json!("new")));
    assert_eq!(string_at(&page.expect(200), "/data/0/id"), new);
    assert_eq!(receiver.next().await.id, new);
    assert!(receiver.drain().is_empty());
    assert_eq!(hub.subscription(&id).await.get("expired"), None);
}

#[tokio::test]
async fn a_paused_subscription_whose_events_expire_gets_one_gap_report_and_all_retained_events() {
    let hub = TestHub::start().await;
    let acme = hub.acting_for("acme");
    let mut receiver = TestReceiver::responding(&[200, 500, 500, 200]).await;
    let wanted = merged(
        receiver.subscription_to("n"),
        json!({"max_in_flight": 1, "retry_schedule_s": [1_000]}),
    );
    let id = acme.subscribe(&wanted).await;
    let attempted = acme.publish_many("n", 3).await;
    receiver.take(3).await;
    wait_for_deliveries(&acme, &id, "retrying", 2).await;
    post(&acme, &id, "pause").await;
    let parked = acme.publish_many("n", 4).await;
    acme.publish_many("other", 5).await;
    hub.publish_many("n", 5).await;
    let database = hub.stop().await;
    age(&database, 20).await;

    let hub = TestHub::start_on(&database, |_| ()).await;
    let acme = hub.acting_for("acme");
    let kept = acme.publish_many("n", 1_200).await;
    assert_eq!(acme.subscription(&id).await.get("expired"), None);
    let database = hub.stop().await;
    age(&database, 20).await;
    let (attempted, parked) = (all_aged(&attempted, 40), all_aged(&parked, 40));

    let hub = TestHub::start_on(&database, |_| ()).await;
    let acme = hub.acting_for("acme");
    let gap = wait_for_gap(&acme).await;
    let lost = json!({"reason": "expired", "subscription": id, "events": 6, "from": attempted[1], "to": parked[3]});
    assert_eq!(gap["data"], lost);
    let expired = acme.subscription(&id).await["expired"].clone();
    assert_eq!(expired["events"], 6);
    assert!(string_at(&expired, "/up_to") >= parked[3]);
    assert!(gaps(&hub).await.is_empty(), "another tenant does not see the gap");
    assert_eq!(database.query_number("SELECT count(*) FROM retries").await, 0);

    post(&acme, &id, "resume").await;
    let delivered = receiver.take(1_200).await;
    assert!(delivered.iter().all(|delivery| delivery.attempt == 1));
    let delivered = delivered.into_iter().map(|delivery| delivery.id).collect();
    assert_eq!(sorted(delivered), all_aged(&kept, 20));
    let new = acme.publish("n", json!("new")).await;
    assert_eq!(receiver.next().await.id, new);
    wait_for_delivery(&acme, &id, &new, "delivered").await;
    assert!(receiver.drain().is_empty());
    assert_eq!(gaps(&acme).await.len(), 1);
}

#[tokio::test]
async fn expired_events_are_counted_with_the_patterns_in_force_when_they_were_published() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["a", "hookhub.gap"]})).await;
    hub.publish_many("a", 2).await;
    hub.publish_many("b", 4).await;
    hub.post(&format!("/v1/subscriptions/{id}/test"), &json!({})).await.expect(202);
    let change = json!({"event_types": ["b", "hookhub.gap"]});
    hub.send(Method::PATCH, &format!("/v1/subscriptions/{id}"), &change).await.expect(200);
    hub.publish_many("a", 8).await;
    hub.publish_many("b", 16).await;
    let all = ids(&hub, "/v1/events").await;
    hub.post(&format!("/v1/subscriptions/{id}/ack"), &json!({"cursor": all[0]})).await.expect(200);
    let database = hub.stop().await;
    age(&database, 40).await;

    let hub = TestHub::start_on(&database, |_| ()).await;
    let gap = wait_for_gap(&hub).await;
    assert_eq!(gap["data"]["events"], 1 + 1 + 16);
    assert_eq!(gap["data"]["from"], json!(aged(&all[1], 40)));
    assert_eq!(gap["data"]["to"], json!(aged(&all[all.len() - 1], 40)));
    let page = hub.get(&format!("/v1/subscriptions/{id}/events")).await.expect(200);
    assert_eq!(
        string_at(&page, "/data/0/id"),
        string_at(&gap, "/id"),
        "the subscription matches gap events"
    );
}

#[tokio::test]
async fn a_pull_subscription_whose_events_expire_gets_a_gap_report_and_continues_with_retained_events()
 {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[200, 500]).await;
    let wanted = merged(
        receiver.subscription_to("n"),
        json!({"max_in_flight": 1, "retry_schedule_s": [1_000]}),
    );
    let id = hub.subscribe(&wanted).await;
    // The callback accepts the first event and rejects the second; the third is published for pull.
    hub.publish_many("n", 2).await;
    receiver.take(2).await;
    wait_for_deliveries(&hub, &id, "retrying", 1).await;
    let pulled = json!({"callback_url": null});
    hub.send(Method::PATCH, &format!("/v1/subscriptions/{id}"), &pulled).await.expect(200);
    hub.publish("n", json!(2)).await;
    let database = hub.stop().await;
    age(&database, 20).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let kept = hub.publish_many("n", 3).await;
    let database = hub.stop().await;
    age(&database, 20).await;

    let hub = TestHub::start_on(&database, |_| ()).await;
    assert_eq!(wait_for_gap(&hub).await["data"]["events"], 2);
    let page = format!("/v1/subscriptions/{id}/events");
    wait_for_expiry(&database).await;
    let left = hub.get(&page).await.expect(200);
    let left: Vec<_> =
        array_at(&left, "/data").iter().map(|event| string_at(event, "/id")).collect();
    assert_eq!(left, all_aged(&kept, 20));
    assert_eq!(hub.subscription(&id).await["expired"]["events"], 2);
}

#[tokio::test]
async fn appends_and_deliveries_continue_while_a_reader_blocks_the_drop_of_a_partition() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish_many("n", 3).await;
    receiver.take(3).await;
    wait_for_deliveries(&hub, &id, "delivered", 3).await;
    let database = hub.stop().await;
    age(&database, 40).await;
    let mut reader = database.connect().await;
    for statement in ["BEGIN", "SELECT count(*) FROM events, attempts"] {
        reader.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }

    let hub = TestHub::start_on(&database, |_| ()).await;
    let started = Instant::now();
    let detaching = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    let blocked_appends = "SELECT count(*) FROM pg_locks
        WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut published = Vec::new();
    while database.query_number(detaching).await == 0 || started.elapsed() < Duration::from_secs(4)
    {
        let data = json!(published.len());
        let (id, blocked) =
            tokio::join!(hub.publish("n", data), database.query_number(blocked_appends));
        assert_eq!(blocked, 0, "an append waits for the lock of a table");
        published.push(id);
        // A retention round that fails on a busy machine is repeated after a minute.
        assert!(started.elapsed() < Duration::from_secs(80), "no partition is being detached");
    }
    let listed = ids(&hub, "/v1/events").await;
    assert_eq!(listed, published, "new readers do not see the partition that is being detached");
    wait_for_deliveries(&hub, &id, "delivered", published.len()).await;

    // The reader has ended; the next retention round, here the first one of another node, drops the rest.
    reader.execute(AssertSqlSafe("COMMIT".to_owned())).await.unwrap();
    let turns = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = 7308324465820957";
    eventually("the first node releases the retention lock", async || {
        (database.query_number(turns).await == 0).then_some(())
    })
    .await;
    let others = hubs_that_drop_old_partitions(&database).await;
    let last = others[0].publish("n", json!("last")).await;
    assert_eq!(sorted(receiver.next_ids(published.len() + 1).await).last(), Some(&last));
}

#[tokio::test]
async fn two_nodes_that_expire_events_at_once_report_the_gap_once() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let mut parked = Vec::new();
    for _ in 0..5 {
        let id = hub.subscribe(&receiver.subscription_to("n")).await;
        post(&hub, &id, "pause").await;
        parked.push(id);
    }
    hub.publish_many("n", 300).await;
    let database = hub.stop().await;
    age(&database, 40).await;

    let (one, other) =
        tokio::join!(TestHub::start_on(&database, |_| ()), TestHub::start_on(&database, |_| ()),);
    wait_for_expiry(&database).await;
    for hub in [&one, &other] {
        eventually("all gaps are reported", async || (gaps(hub).await.len() >= 5).then_some(()))
            .await;
        assert_eq!(gaps(hub).await.len(), 5);
        for id in &parked {
            assert_eq!(hub.subscription(id).await["expired"]["events"], 300);
        }
    }
}

#[tokio::test]
async fn a_delivery_whose_attempts_have_expired_is_unknown_and_can_be_retried() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let old = hub.publish_many("n", 3).await;
    receiver.take(3).await;
    wait_for_deliveries(&hub, &id, "delivered", 3).await;
    let database = hub.stop().await;
    age(&database, 20).await;
    let old = all_aged(&old, 20);

    let hub = TestHub::start_on(&database, |_| ()).await;
    let attempts = async || (older(&database, "attempts", 14).await == 0).then_some(());
    eventually("old attempts are dropped", attempts).await;
    assert_eq!(older(&database, "events", 14).await, 1);
    wait_for_deliveries(&hub, &id, "unknown", 3).await;
    let path = format!("/v1/events/{}/deliveries", old[0]);
    let delivery = hub.list_all(&path).await.pop().unwrap();
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("unknown"), &json!([])));
    hub.post(&format!("/v1/deliveries/{id}/{}/retry", old[0]), &json!({})).await.expect(202);
    assert_eq!(receiver.next().await.id, old[0]);

    // A replay over that part of the log is not recorded, and recording continues.
    let mut replayed = TestReceiver::responding(&[500, 200]).await;
    let from_the_earliest = json!({"from": "earliest", "ordered": true});
    let replay = hub.subscribe(&merged(replayed.subscription_to("n"), from_the_earliest)).await;
    let mut expected = old.clone();
    expected.insert(0, old[0].clone());
    assert_eq!(replayed.next_ids(4).await, expected);
    let new = hub.publish("n", json!("new")).await;
    assert_eq!([replayed.next().await.id, receiver.next().await.id], [new.clone(), new.clone()]);
    wait_for_delivery(&hub, &replay, &new, "delivered").await;
    wait_for_deliveries(&hub, &replay, "unknown", 3).await;
}

#[tokio::test]
async fn attempts_that_prevent_duplicates_are_kept_while_their_subscription_lags() {
    let hub = TestHub::start().await;
    hub.publish("older", json!(1)).await;
    let database = hub.stop().await;
    age(&database, 20).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let old = hub.publish_many("n", 5).await;
    receiver.take(5).await;
    wait_for_deliveries(&hub, &id, "delivered", 5).await;
    post(&hub, &id, "pause").await;
    let database = hub.stop().await;
    // As if the first event had still been in flight when the subscription was paused.
    let first = old[0].parse::<Position>().unwrap().stored();
    let mut connection = database.connect().await;
    for statement in [
        format!("DELETE FROM attempts WHERE position = {first}"),
        format!(
            "INSERT INTO subscription_cursors SELECT subscription, {first} - 1 FROM attempts LIMIT 1"
        ),
    ] {
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    age(&database, 20).await;
    let old = all_aged(&old, 20);

    let hub = TestHub::start_on(&database, |_| ()).await;
    wait_for_expiry(&database).await;
    wait_for_deliveries(&hub, &id, "delivered", 4).await;
    wait_for_deliveries(&hub, &id, "pending", 1).await;
    post(&hub, &id, "resume").await;
    assert_eq!(receiver.next().await.id, old[0]);
    wait_for_deliveries(&hub, &id, "delivered", 5).await;
    assert!(receiver.drain().is_empty());
    assert_eq!(older(&database, "attempts", 14).await, 1);
}

#[tokio::test]
async fn a_reader_from_the_earliest_event_works_when_everything_has_expired() {
    let hub = TestHub::start().await;
    hub.publish_many("n", 3).await;
    let database = hub.stop().await;
    age(&database, 40).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    // One read starts while the old events may still exist, and one after that.
    let early = hub.get("/v1/events?after=earliest").await.expect(200);
    wait_for_expiry(&database).await;
    eventually("no event is listed", async || {
        let page = hub.get("/v1/events?after=earliest").await.expect(200);
        (array_at(&page, "/data").is_empty() && page["has_more"] == false).then_some(())
    })
    .await;
    let path = format!("/v1/events?wait=20&after={}", string_at(&early, "/next_cursor"));
    let stream = hub.request(Method::GET, "/v1/stream?after=earliest");
    let mut stream = EventSource::open(stream).await.unwrap();
    let (page, new) = tokio::join!(hub.get(&path), hub.publish("n", json!("new")));
    assert_eq!(string_at(&page.expect(200), "/data/0/id"), new);
    assert_eq!(in_time("an event", stream.next()).await.unwrap().id, new);
}
