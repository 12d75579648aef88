//! The order of the log: a reader that has seen a position never finds an unseen event below it, whatever transactions
//! are open.

use std::collections::HashSet;

use futures_util::future::join_all;
use hookhub::domain::encryption::Encryptor;
use hookhub::domain::event::page::{PageLimit, Scan};
use hookhub::domain::position::Position;
use hookhub::log::Log;
use hookhub::store::Store;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::client::{Client, array_at, string_at};
use crate::support::database::Database;
use crate::support::hub::{MASTER_KEY, TestHub};
use crate::support::receiver::TestReceiver;
use crate::support::{eventually, in_time};

/// Appends one event as a node does, within the open transaction, and returns its id.
async fn append(connection: &mut PgConnection, event_type: &str) -> String {
    let row = sqlx::query(
        "SELECT first_position FROM log_append(
             $1, 0, ARRAY['default'], ARRAY[NULL::text], ARRAY[NULL::bytea], ARRAY[1],
             ARRAY[1], ARRAY[$2::text], ARRAY[NULL::bigint], ARRAY[NULL::bigint], ARRAY['1'::bytea])",
    )
    .bind(Uuid::new_v4())
    .bind(event_type)
    .fetch_one(connection)
    .await
    .expect("appended");
    Position::from_stored(row.get(0)).to_string()
}

/// Number of sessions that wait for a lock.
async fn waiting(connection: &mut PgConnection) -> i64 {
    let count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sqlx::query_scalar(count).fetch_one(connection).await.expect("counted")
}

async fn wait_for_lock_waiters(database: &Database, count: i64) {
    let mut connection = database.connect().await;
    eventually("an append waits for the lock", async || {
        (waiting(&mut connection).await == count).then_some(())
    })
    .await;
}

/// Reads the log from a cursor up to an event of the type `end`; returns the ids in the order of reading.
async fn follow(hub: &Client, end: &str) -> Vec<String> {
    let (mut met, mut cursor) = (Vec::new(), "earliest".to_owned());
    in_time("the end of the log", async {
        loop {
            let page = hub.get(&format!("/v1/events?limit=250&after={cursor}")).await.expect(200);
            cursor = string_at(&page, "/next_cursor");
            for event in array_at(&page, "/data") {
                met.push(string_at(event, "/id"));
                if event["type"] == end {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    met
}

#[tokio::test]
async fn no_later_event_is_visible_while_an_append_is_uncommitted() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("*")).await;
    let before = hub.publish("before", json!(1)).await;
    let mut holder = hub.database.connect().await;
    let mut open = holder.begin().await.unwrap();
    let held = append(&mut open, "held").await;

    let publish = hub.publish("later", json!(2));
    let look = async {
        wait_for_lock_waiters(&hub.database, 1).await;
        let seen = hub.list_all("/v1/events").await;
        assert_eq!(seen.len(), 1, "neither the uncommitted event nor a later one: {seen:?}");
        open.commit().await.unwrap();
    };
    let (later, ()) = tokio::join!(publish, look);
    assert!(before < held && held < later);
    assert_eq!(follow(&hub, "later").await, [before.clone(), held.clone(), later.clone()]);
    let mut delivered = receiver.next_ids(3).await;
    delivered.sort_unstable();
    assert_eq!(delivered, [before, held, later]);
}

#[tokio::test]
async fn two_open_transactions_append_one_after_the_other() {
    let hub = TestHub::start().await;
    let (mut a, mut b) = (hub.database.connect().await, hub.database.connect().await);
    let mut first = a.begin().await.unwrap();
    let mut second = b.begin().await.unwrap();
    let one = append(&mut first, "one").await;
    let then = async {
        let two = append(&mut second, "two").await;
        second.commit().await.unwrap();
        two
    };
    let look = async {
        wait_for_lock_waiters(&hub.database, 1).await;
        assert!(hub.list_all("/v1/events").await.is_empty());
        first.commit().await.unwrap();
    };
    let (two, ()) = tokio::join!(then, look);
    let three = hub.publish("three", json!(3)).await;
    assert_eq!(follow(&hub, "three").await, [one, two, three]);
}

#[tokio::test]
async fn a_rolled_back_append_leaves_a_gap_and_blocks_no_reader() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("*")).await;
    let mut connection = hub.database.connect().await;
    let mut open = connection.begin().await.unwrap();
    let gone = append(&mut open, "gone").await;
    open.rollback().await.unwrap();
    let event = hub.publish("after", json!(1)).await;
    assert!(event > gone, "a position is never assigned twice");
    assert_eq!(receiver.next().await.id, event);
    hub.get(&format!("/v1/events/{gone}")).await.expect_problem(404, "not_found");
    assert_eq!(follow(&hub, "after").await, [event]);
}

#[tokio::test]
async fn readers_at_two_nodes_read_every_event_once_in_order_during_concurrent_appends() {
    let hub = TestHub::start().await;
    let other = TestHub::start_on(&hub.database, |_| ()).await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("n")).await;

    let append_behind_their_backs = async {
        let mut connection = hub.database.connect().await;
        let mut ids = Vec::new();
        for _ in 0..100 {
            let mut open = connection.begin().await.unwrap();
            ids.push(append(&mut open, "n").await);
            tokio::task::yield_now().await;
            open.commit().await.unwrap();
        }
        ids
    };
    let publish = async |hub: &Client| {
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.extend(join_all((0..10).map(|n| hub.publish("n", json!(n)))).await);
        }
        ids
    };
    let write = async {
        let (a, b, c) = tokio::join!(append_behind_their_backs, publish(&hub), publish(&other));
        let mut written = [a, b, c].concat();
        written.push(hub.publish("end", json!(0)).await);
        written
    };
    let (written, here, there) = tokio::join!(write, follow(&hub, "end"), follow(&other, "end"));
    assert!(here.is_sorted(), "a reader never finds an earlier event later");
    assert_eq!(here, there);
    assert_eq!(here.len(), written.len());
    assert_eq!(here.iter().collect::<HashSet<_>>(), written.iter().collect());
    let delivered: HashSet<_> = receiver.next_ids(500).await.into_iter().collect();
    assert_eq!(delivered.len(), 500);
}

/// A node that takes over a shard reads up to the former owner's position, although it has received no notification.
#[tokio::test]
async fn a_lagging_node_reads_a_range_completely() {
    let hub = TestHub::start().await;
    let encryptor = Encryptor::new(MASTER_KEY.parse().unwrap());
    let store = Store::new(hub.database.url(), encryptor).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let log = Log::start(Uuid::new_v4(), store, Vec::new(), &tasks, stop.clone()).await.unwrap();
    let mut elsewhere = hub.database.connect().await;
    for _ in 0..5 {
        let after = log.head();
        let up_to: Position = append(&mut elsewhere, "a").await.parse().unwrap();
        let limit = PageLimit { events: 100, bytes: 1 << 20 };
        let scan = Scan { after, up_to, tenant: None, limit };
        let read = log.read_after(scan).await.unwrap();
        let positions: Vec<_> = read.events.iter().map(|event| event.position).collect();
        assert_eq!((positions, read.complete), (vec![up_to], true));
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
