//! Several nodes on one Postgres: they share the work, take over from each other, and each answers for all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::client::{Client, array_at, string_at};
use crate::support::hub::TestHub;
use crate::support::process::{Environment, HubProcess};
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::{eventually, in_time};

/// Time limit for the takeover of a dead node's shards: the rest of its lease, and some time on a busy machine.
const MAX_TAKEOVER: Duration = Duration::from_secs(20);

/// Waits until the live nodes hold these numbers of shards, in ascending order.
async fn wait_for_shards(hub: &Client, wanted: &[u64]) {
    eventually("the nodes share the shards", async || {
        let nodes = hub.get("/v1/nodes").await.expect(200);
        let alive = array_at(&nodes, "/data").iter().filter(|node| node["status"] == "alive");
        let mut shards: Vec<u64> = alive.filter_map(|node| node["shards"].as_u64()).collect();
        shards.sort_unstable();
        (shards == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_poll_waiting_on_one_node_gets_events_published_on_another() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let mut after = string_at(&other.get("/v1/events?after=now").await.expect(200), "/next_cursor");
    for n in 0..30 {
        let path = format!("/v1/events?wait=20&after={after}");
        let waiting = async {
            let page = other.get(&path).await.expect(200);
            (
                array_at(&page, "/data").len(),
                string_at(&page, "/data/0/id"),
                string_at(&page, "/next_cursor"),
            )
        };
        let publishing = one.publish("n", json!(n));
        let ((count, got, next), published) =
            in_time("the poll returns", async { tokio::join!(waiting, publishing) }).await;
        assert_eq!((count, &got), (1, &published));
        after = next;
    }
}

#[tokio::test]
async fn a_cursor_of_one_node_works_on_another_at_once() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    for n in 0..20 {
        let id = one.publish("n", json!(n)).await;
        let page = other.get(&format!("/v1/events?after={id}")).await.expect(200);
        assert!(array_at(&page, "/data").is_empty(), "{page}");
    }
}

#[tokio::test]
async fn nodes_that_join_and_leave_share_the_shards_without_loss_or_duplicates() {
    let one = TestHub::start().await;
    let mut receivers = Vec::new();
    for _ in 0..20 {
        let receiver = TestReceiver::start().await;
        one.subscribe(&receiver.subscription_to("n")).await;
        receivers.push(receiver);
    }
    wait_for_shards(&one, &[64]).await;
    let mut ids = one.publish_many("n", 30).await;
    let two = TestHub::start_on(&one.database, |_| ()).await;
    ids.extend(two.publish_many("n", 30).await);
    wait_for_shards(&one, &[32, 32]).await;
    ids.extend(one.publish_many("n", 30).await);
    let three = TestHub::start_on(&one.database, |_| ()).await;
    ids.extend(two.publish_many("n", 30).await);
    wait_for_shards(&one, &[20, 22, 22]).await;
    ids.extend(three.publish_many("n", 30).await);
    let database = one.stop().await;
    ids.extend(three.publish_many("n", 30).await);
    wait_for_shards(&two, &[32, 32]).await;
    three.stop().await;
    ids.extend(two.publish_many("n", 30).await);
    wait_for_shards(&two, &[64]).await;
    for receiver in &mut receivers {
        assert_eq!(sorted(receiver.next_ids(ids.len()).await), ids);
    }
    two.stop().await;
    assert!(
        receivers.iter_mut().all(|receiver| receiver.drain().is_empty()),
        "no event arrived twice"
    );
    drop(database);
}

#[tokio::test]
async fn a_change_on_one_node_applies_on_the_delivering_node_once_it_is_answered() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    wait_for_shards(&one, &[32, 32]).await;
    let mut receiver = TestReceiver::start().await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(one.subscribe(&receiver.subscription_to("n")).await);
    }
    other.publish("n", json!(1)).await;
    receiver.take(12).await;
    for (id, hub) in ids.iter().zip([&one, &other].into_iter().cycle()) {
        hub.delete(&format!("/v1/subscriptions/{id}")).await.expect(204);
    }
    let mut witness = TestReceiver::start().await;
    one.subscribe(&witness.subscription_to("n")).await;
    one.publish("n", json!(2)).await;
    witness.next().await;
    assert!(receiver.drain().is_empty(), "no attempt starts after the response");
}

#[tokio::test]
async fn the_shards_of_a_dead_node_are_taken_over_within_five_seconds_of_its_last_renewal() {
    let one = TestHub::start().await;
    let directory = tempdir().expect("a directory");
    let environment =
        Environment::for_hub(directory.path()).with("DATABASE_URL", one.database.url());
    let doomed = HubProcess::start(&environment).await;
    wait_for_shards(&one, &[32, 32]).await;
    let mut receivers = Vec::new();
    for _ in 0..8 {
        let receiver = TestReceiver::start().await;
        one.subscribe(&receiver.subscription_to("n")).await;
        receivers.push(receiver);
    }
    let before = one.publish("n", json!("before")).await;
    for receiver in &mut receivers {
        assert_eq!(receiver.next().await.id, before);
    }
    doomed.program.kill().await;
    let killed = Instant::now();
    let longer =
        "SELECT count(*) FROM nodes WHERE leased_until > clock_timestamp() + interval '5 s'";
    assert_eq!(one.database.query_number(longer).await, 0, "a lease ends within five seconds");
    let after = one.publish("n", json!("after")).await;
    for receiver in &mut receivers {
        let mut arrived = receiver.next().await.id;
        if arrived == before {
            // The result of this delivery was not recorded before the node died.
            arrived = receiver.next().await.id;
        }
        assert_eq!(arrived, after);
    }
    let took = killed.elapsed();
    assert!(took < MAX_TAKEOVER, "{took:?}");
    wait_for_shards(&one, &[64]).await;
}

#[tokio::test]
async fn only_the_operator_sees_the_nodes() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    wait_for_shards(&one, &[32, 32]).await;
    let nodes = one.get("/v1/nodes").await.expect(200);
    let addresses: Vec<String> =
        array_at(&nodes, "/data").iter().map(|node: &Value| string_at(node, "/address")).collect();
    for hub in [&one, &other] {
        assert!(addresses.contains(&hub.address().to_string()), "{nodes}");
    }
    let key = one.post("/v1/keys", &json!({"name": "a tenant's"})).await.expect(201);
    one.with_key(Some(&string_at(&key, "/key")))
        .get("/v1/nodes")
        .await
        .expect_problem(403, "forbidden");
}
