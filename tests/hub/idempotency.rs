//! Requests repeated with an `Idempotency-Key`: every node runs them once and repeats the first response.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::client::{Client, Response, merged, send_request, string_at};
use crate::support::database::Database;
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::waits::wait_for_deliveries;
use crate::support::{eventually, in_time};

/// The advisory lock that every append to the log takes.
const LOCK_LOG: &str = "SELECT pg_advisory_xact_lock(7308324465820951)";

fn event(event_type: &str) -> Value {
    json!({"type": event_type, "data": 1})
}

#[track_caller]
fn is_replay(again: &Response, first: &Response) {
    assert_eq!(first.header("idempotent-replayed"), None, "{}", first.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.body);
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("location"), first.header("location"));
}

async fn rows(database: &Database, table: &str) -> i64 {
    database.query_number(&format!("SELECT count(*) FROM {table}")).await
}

/// Every request that creates something, with its path and body.
async fn creations(hub: &TestHub, receiver: &mut TestReceiver) -> Vec<(String, Value)> {
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let first = hub.publish("n", json!(0)).await;
    hub.publish_many("n", 2).await;
    receiver.take(3).await;
    wait_for_deliveries(hub, &id, "delivered", 3).await;
    vec![
        ("/v1/events".into(), event("a")),
        ("/v1/events".into(), json!([event("a"), event("no type"), event("b")])),
        ("/v1/subscriptions".into(), json!({"event_types": ["a"], "description": "x"})),
        ("/v1/keys".into(), json!({"name": "ci", "expires_in_s": 60})),
        ("/v1/stream-tokens".into(), json!({"types": ["a"]})),
        (format!("/v1/subscriptions/{id}/replay"), json!({"since": "earliest", "only": "all"})),
        (format!("/v1/subscriptions/{id}/test"), json!({})),
        (format!("/v1/deliveries/{id}/{first}/retry"), json!({})),
    ]
}

#[tokio::test]
async fn each_create_request_runs_once_and_every_node_repeats_its_response() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let mut receiver = TestReceiver::start().await;
    let creations = creations(&one, &mut receiver).await;
    let mut firsts = Vec::new();
    for (n, (path, body)) in creations.iter().enumerate() {
        let key = format!("creation {n}");
        let first = one.post_idempotent(path, &key, body).await;
        assert!((200..300).contains(&first.status), "{path}: {}", first.body);
        firsts.push(first);
    }
    let created = async || {
        let tables = ["keys", "subscriptions", "events", "idempotency_keys"];
        let mut counts = Vec::new();
        for table in tables {
            counts.push(rows(&one.database, table).await);
        }
        counts
    };
    // The replay's deliveries, the test event, and the retried delivery.
    receiver.take(5).await;
    let before = created().await;
    for hub in [&one, &other] {
        for (n, (path, body)) in creations.iter().enumerate() {
            for key in [format!("creation {n}"), format!("\"creation {n}\"")] {
                is_replay(&hub.post_idempotent(path, &key, body).await, &firsts[n]);
            }
        }
    }
    assert_eq!(created().await, before, "no row was created again");
    assert!(receiver.drain().is_empty());
    other.stop().await;
    let hub = TestHub::start_on(&one.stop().await, |_| ()).await;
    for (n, (path, body)) in creations.iter().enumerate() {
        is_replay(&hub.post_idempotent(path, &format!("creation {n}"), body).await, &firsts[n]);
    }
}

#[tokio::test]
async fn a_stored_response_is_repeated_even_if_the_request_would_now_be_refused() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish("n", json!(1)).await;
    receiver.next().await;
    wait_for_deliveries(&hub, &id, "delivered", 1).await;
    let receipt = hub.post("/v1/events", &event("clock")).await.expect(202);
    let published_at = string_at(&receipt, "/timestamp");
    let at = hookhub::domain::time::UnixMillis::parse(&published_at).expect("a time");
    let at = at.after(std::time::Duration::from_secs(6)).to_string();
    let path = format!("/v1/subscriptions/{id}");
    let requests = [
        ("/v1/keys".to_owned(), json!({"name": "ci", "expires_at": at})),
        (format!("{path}/test"), json!({})),
        (format!("{path}/replay"), json!({"since": "earliest", "only": "all"})),
    ];
    let mut firsts = Vec::new();
    for (n, (path, body)) in requests.iter().enumerate() {
        firsts.push(hub.post_idempotent(path, &n.to_string(), body).await);
    }
    hub.delete(&path).await.expect(204);
    eventually("the key has expired", async || {
        let response = hub.post("/v1/keys", &requests[0].1).await;
        (response.status == 422).then_some(())
    })
    .await;
    for (n, (path, body)) in requests.iter().enumerate() {
        is_replay(&hub.post_idempotent(path, &n.to_string(), body).await, &firsts[n]);
    }
}

#[tokio::test]
async fn a_different_request_with_the_same_key_is_refused_by_every_node_without_effect() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let paths = [
        ("/v1/events", event("a")),
        ("/v1/keys", json!({"name": "ci"})),
        ("/v1/subscriptions", json!({"event_types": ["a"]})),
        ("/v1/stream-tokens", json!({"types": ["a"]})),
    ];
    one.post_idempotent("/v1/events", "k", &event("first")).await.expect(202);
    for hub in [&one, &other] {
        for (path, body) in &paths {
            hub.post_idempotent(path, "k", body)
                .await
                .expect_problem(422, "idempotency_key_reused");
            hub.acting_for("another").post_idempotent(path, &format!("{path} k"), body).await;
        }
    }
    assert_eq!(one.list_all("/v1/events").await.len(), 1);
    assert!(
        one.list_all("/v1/keys").await.is_empty()
            && one.list_all("/v1/subscriptions").await.is_empty()
    );
    assert_eq!(
        one.acting_for("another").list_all("/v1/keys").await.len(),
        1,
        "each tenant has its own keys"
    );
}

/// Sends the same request to two nodes while `lock` blocks the first; returns both responses.
async fn at_once(lock: &str, path: &'static str, body: Value) -> (Response, Response) {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let mut holder = one.database.connect().await;
    holder.execute("BEGIN").await.expect("a transaction");
    holder.execute(sqlx::AssertSqlSafe(lock.to_owned())).await.expect("the lock");
    let (client, wanted) = ((*one).clone(), body.clone());
    let mut first = JoinSet::new();
    first.spawn(async move { client.post_idempotent(path, "k", &wanted).await });
    let database = &one.database;
    eventually("the first request runs", async || {
        (rows(database, "idempotency_claims").await == 1).then_some(())
    })
    .await;
    for hub in [&one, &other] {
        let early = in_time("a response", hub.post_idempotent(path, "k", &body)).await;
        early.expect_problem(409, "idempotency_key_in_use");
        assert_eq!(early.header("retry-after"), Some("1"));
    }
    holder.execute("COMMIT").await.expect("the commit");
    let first = first.join_next().await.expect("a task").expect("a response");
    let again = other.post_idempotent(path, "k", &body).await;
    is_replay(&again, &first);
    eventually("all claims are deleted", async || {
        (rows(database, "idempotency_claims").await == 0).then_some(())
    })
    .await;
    (first, again)
}

#[tokio::test]
async fn a_repeat_during_a_publish_gets_409_from_every_node() {
    let (first, _) = at_once(LOCK_LOG, "/v1/events", event("a")).await;
    first.expect(202);
}

#[tokio::test]
async fn a_repeat_during_a_key_creation_gets_409_from_every_node() {
    let lock = "LOCK TABLE keys IN SHARE MODE";
    let (first, _) = at_once(lock, "/v1/keys", json!({"name": "ci"})).await;
    first.expect(201);
}

#[tokio::test]
async fn of_many_concurrent_repeats_at_two_nodes_one_runs() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    for (path, body, table) in [
        ("/v1/events", event("a"), "events"),
        ("/v1/keys", json!({"name": "ci"}), "keys"),
        ("/v1/subscriptions", json!({"event_types": ["a"]}), "subscriptions"),
    ] {
        let before = rows(&one.database, table).await;
        let requests = (0..20).map(|n| {
            let hub = if n % 2 == 0 { &one } else { &other };
            hub.post_idempotent(path, path, &body)
        });
        let answers = futures_util::future::join_all(requests).await;
        assert_eq!(rows(&one.database, table).await, before + 1, "{path}");
        let first =
            answers.iter().find(|response| response.header("idempotent-replayed").is_none());
        let first = first.filter(|response| (200..300).contains(&response.status));
        for response in &answers {
            match response.status {
                409 => drop(response.expect_problem(409, "idempotency_key_in_use")),
                _ => assert_eq!(
                    Some(&response.body),
                    first.or(Some(response)).map(|first| &first.body)
                ),
            }
        }
    }
}

#[tokio::test]
async fn an_unfinished_request_of_a_dead_node_blocks_nobody() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let insert = format!(
        "INSERT INTO idempotency_claims VALUES ('default', 'k', '{}', '{}')",
        Uuid::new_v4(),
        Uuid::new_v4()
    );
    let mut connection = one.database.connect().await;
    connection.execute(sqlx::AssertSqlSafe(insert)).await.unwrap();
    other.post_idempotent("/v1/events", "k", &event("a")).await.expect(202);
}

/// A client with a key for these event types.
async fn restricted(hub: &TestHub, event_types: Value) -> Client {
    let wanted = json!({"name": "restricted", "event_types": event_types});
    let created = hub.post("/v1/keys", &wanted).await.expect(201);
    hub.with_key(Some(&string_at(&created, "/key")))
}

#[tokio::test]
async fn a_stored_response_reveals_nothing_to_a_key_without_access() {
    let hub = TestHub::start().await;
    let narrow = restricted(&hub, json!(["b"])).await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    let sent = hub.publish("a", json!(1)).await;
    receiver.next().await;
    wait_for_deliveries(&hub, &id, "delivered", 1).await;
    for (path, body) in [
        ("/v1/events".to_owned(), event("a")),
        ("/v1/subscriptions".to_owned(), json!({"event_types": ["a"]})),
        ("/v1/stream-tokens".to_owned(), json!({"types": ["a"]})),
        ("/v1/keys".to_owned(), json!({"name": "ci"})),
        (format!("/v1/subscriptions/{id}/test"), json!({})),
        (format!("/v1/subscriptions/{id}/replay"), json!({"since": "earliest", "only": "all"})),
        (format!("/v1/deliveries/{id}/{sent}/retry"), json!({})),
    ] {
        let first = hub.post_idempotent(&path, &path, &body).await;
        assert!((200..300).contains(&first.status), "{path}: {}", first.body);
        let response = narrow.post_idempotent(&path, &path, &body).await;
        assert!([403, 404].contains(&response.status), "{path}: {}", response.body);
        is_replay(&hub.post_idempotent(&path, &path, &body).await, &first);
    }
}

#[tokio::test]
async fn a_batch_is_another_request_for_a_key_with_more_event_types() {
    let hub = TestHub::start().await;
    let narrow = restricted(&hub, json!(["a"])).await;
    let batch = json!([event("a"), event("b"), event("a")]);
    let first = narrow.post_idempotent("/v1/events", "k", &batch).await;
    is_replay(&narrow.post_idempotent("/v1/events", "k", &batch).await, &first);
    let response = hub.post_idempotent("/v1/events", "k", &batch).await;
    response.expect_problem(422, "idempotency_key_reused");
    assert_eq!(hub.list_all("/v1/events").await.len(), 2);
}

#[tokio::test]
async fn a_dry_run_or_a_refused_request_leaves_its_idempotency_key_free() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let path = format!("/v1/subscriptions/{id}/replay");
    let wanted = json!({"since": "earliest", "only": "all"});
    let dry = merged(wanted.clone(), json!({"dry_run": true}));
    hub.post_idempotent(&path, "k", &dry).await.expect(200);
    hub.post_idempotent(&path, "k", &json!({"since": "nonsense"})).await.expect_invalid("/since");
    hub.post_idempotent(&path, "k", &wanted).await.expect(202);
    let twice = hub
        .request(Method::POST, "/v1/events")
        .header("idempotency-key", "a")
        .header("idempotency-key", "b")
        .header("content-type", "application/json")
        .body(event("a").to_string());
    send_request(twice).await.expect_problem(400, "invalid_header");
}
