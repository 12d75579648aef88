//! Durability: every acknowledged event is delivered although the hub, Postgres or their connection fails.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hookhub::config::Database as DatabaseSetting;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::client::{Client, merged, string_at, try_send_request};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::TestHub;
use crate::support::postgres_proxy::{DisconnectAt, PostgresProxy};
use crate::support::process::{Environment, HubProcess};
use crate::support::receiver::TestReceiver;
use crate::support::waits::wait_for_deliveries;

/// Number of concurrent publishers.
const PUBLISHERS: usize = 8;

/// Publishes one event after another until `enough` are acknowledged; adds the acknowledged ids to `accepted`.
async fn publish_on(client: Client, accepted: watch::Sender<Vec<String>>, enough: usize) {
    while accepted.borrow().len() < enough {
        let body = json!({"type": "n", "data": "x".repeat(200)}).to_string();
        let request = client
            .request(Method::POST, "/v1/events")
            .header("content-type", "application/json")
            .body(body);
        match try_send_request(request).await {
            Ok(response) if response.status == 202 => {
                let id = string_at(&response.expect(202), "/id");
                accepted.send_modify(|accepted| accepted.push(id));
            }
            Ok(response) => {
                response.expect_problem(503, "unavailable");
                assert!(response.header("retry-after").is_some());
                tokio::task::yield_now().await;
            }
            // The hub is down: the event was not acknowledged.
            Err(_gone) => tokio::task::yield_now().await,
        }
    }
}

/// Publishes until `enough` events are acknowledged, and runs `harm` when half of them are.
async fn flood(client: &Client, enough: usize, harm: impl AsyncFnOnce()) -> Vec<String> {
    let accepted = watch::Sender::new(Vec::new());
    let publishers = (0..PUBLISHERS).map(|_| publish_on(client.clone(), accepted.clone(), enough));
    let harm_in_the_middle = async {
        let mut half = accepted.subscribe();
        half.wait_for(|accepted| accepted.len() >= enough / 2).await.expect("the publishers run");
        harm().await;
    };
    tokio::join!(futures_util::future::join_all(publishers), harm_in_the_middle);
    accepted.borrow().clone()
}

/// The deliveries that a receiver has accepted.
#[derive(Default)]
struct Arrivals {
    /// Each event once, in the order of its first arrival.
    order: Vec<String>,
    /// Number of duplicate deliveries.
    repeats: usize,
}

impl Arrivals {
    /// Collects deliveries until each of `wanted` has been accepted.
    async fn of(receiver: &mut TestReceiver, wanted: &[String]) -> Self {
        let mut arrivals = Self::default();
        let mut missing: HashSet<&String> = wanted.iter().collect();
        let mut seen = HashSet::new();
        while !missing.is_empty() {
            let delivery = receiver.next().await;
            if delivery.status != 200 {
                continue;
            }
            missing.remove(&delivery.id);
            if seen.insert(delivery.id.clone()) {
                arrivals.order.push(delivery.id);
            } else {
                arrivals.repeats += 1;
            }
        }
        arrivals
    }
}

#[tokio::test]
async fn kill_9_of_the_hub_during_a_flood_loses_no_acknowledged_event_and_repeats_few() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    let mut receiver = TestReceiver::start().await;
    let mut steady = TestReceiver::start().await;
    let one_in_ten_fails: Vec<_> =
        (0..3_000).map(|n| if n % 10 == 0 { 500 } else { 200 }).collect();
    let mut flaky = TestReceiver::responding(&one_in_ten_fails).await;
    let hub = HubProcess::start(&environment).await;
    let environment = environment.with("HOOKHUB_LISTEN", &hub.address.to_string());
    let client = hub.client.clone();
    client.subscribe(&receiver.subscription_to("n")).await;
    let failing = client.subscribe(&flaky.subscription_to("n")).await;
    let ordered =
        client.subscribe(&merged(steady.subscription_to("n"), json!({"ordered": true}))).await;

    let (mut again, mut steady_order) = (None, Vec::new());
    let accepted = flood(&client, 3_000, async || {
        hub.program.kill().await;
        again = Some(HubProcess::start(&environment).await);
    })
    .await;
    // Duplicates are possible for results of the last 50 ms before the kill, and for attempts in flight.
    for receiver in [&mut receiver, &mut flaky, &mut steady] {
        let arrivals = Arrivals::of(receiver, &accepted).await;
        assert!(arrivals.repeats <= 200, "{} repeats", arrivals.repeats);
        steady_order = arrivals.order;
    }
    assert!(steady_order.is_sorted(), "the ordered subscription got every event in order");
    let kept = client.list_all("/v1/events?types=n").await.len();
    assert!((3_000..3_000 + 2 * PUBLISHERS).contains(&kept), "{kept} events for 3,000 answers");
    for subscription in [ordered, failing] {
        wait_for_deliveries(&client, &subscription, "delivered", kept).await;
    }
    again.unwrap().program.kill().await;
}

fn postmaster(data_dir: &Path) -> Option<i32> {
    let file = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    file.lines().next()?.trim().parse().ok()
}

#[tokio::test]
async fn the_hub_recovers_from_kill_9_of_the_embedded_postgres_and_loses_no_event() {
    let open = Permissions::from_mode(0o755);
    let dir = tempfile::Builder::new()
        .prefix("hookhub-test-")
        .permissions(open)
        .tempdir_in("/tmp")
        .unwrap();
    let data_dir = dir.path().join("data");
    let hub = HubProcess::start(&Environment::for_hub(&data_dir)).await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.client.subscribe(&receiver.subscription_to("n")).await;

    let accepted = flood(&hub.client, 1_000, async || {
        let first = postmaster(&data_dir).unwrap();
        kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
        eventually("Postgres is restarted", async || {
            postmaster(&data_dir).filter(|next| *next != first)
        })
        .await;
    })
    .await;
    let repeats = Arrivals::of(&mut receiver, &accepted).await.repeats;
    assert_eq!(repeats, 0, "the hub process ran on and knows its deliveries");
    let kept = hub.client.list_all("/v1/events?types=n").await.len();
    wait_for_deliveries(&hub.client, &subscription, "delivered", kept).await;
    hub.client.get("/readyz").await.expect(200);
    hub.program.signal(Signal::SIGTERM);
    let (status, output) = hub.program.wait_for_end().await;
    assert!(status.success(), "{output}");
    assert_eq!(postmaster(&data_dir), None, "Postgres ends with its hub");
}

/// A hub whose connections to Postgres all pass through a proxy.
async fn behind_a_proxy() -> (TestHub, PostgresProxy) {
    let database = Database::create().await;
    let proxy = PostgresProxy::to(&database).await;
    let url = database.url_via_port(proxy.port());
    let hub = TestHub::start_on(&database, |settings| {
        settings.database = DatabaseSetting::Url(url);
    })
    .await;
    (hub, proxy)
}

async fn count(hub: &Client, data: &str) -> usize {
    hub.list_all("/v1/events").await.iter().filter(|event| event["data"] == data).count()
}

#[tokio::test]
async fn the_hub_answers_503_while_postgres_is_down_and_recovers_by_itself() {
    let (hub, proxy) = behind_a_proxy().await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let before = hub.publish("n", json!("before")).await;
    assert_eq!(receiver.next().await.id, before);

    proxy.disconnect();
    let event = json!({"type": "n", "data": "no delivery during the outage"});
    eventually("the hub reports that Postgres is away", async || {
        let refusal = hub.post("/v1/events", &event).await;
        (refusal.status == 503).then(|| refusal.expect_problem(503, "unavailable"))
    })
    .await;
    let refusal = hub.post("/v1/events", &event).await;
    refusal.expect_problem(503, "unavailable");
    assert!(refusal.header("retry-after").is_some());
    hub.get(&format!("/v1/events/{before}")).await.expect_problem(503, "unavailable");
    hub.post("/v1/subscriptions", &receiver.subscription_to("x"))
        .await
        .expect_problem(503, "unavailable");
    hub.get("/readyz").await.expect_problem(503, "unavailable");
    hub.get("/healthz").await.expect(200);
    // On any other status a browser would give up the stream for good.
    let stream = hub.get("/v1/stream?last_event_id=evt_0000000000001").await;
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    assert!(stream.body.starts_with("retry: "), "it ends at once: {}", stream.body);

    proxy.reconnect();
    let after = eventually("publishing continues", async || {
        let response = hub.post("/v1/events", &json!({"type": "n", "data": "after"})).await;
        (response.status == 202).then(|| string_at(&response.expect(202), "/id"))
    })
    .await;
    eventually("the hub is ready", async || (hub.get("/readyz").await.status == 200).then_some(()))
        .await;
    assert_eq!(
        count(&hub, "no delivery during the outage").await,
        0,
        "refused events were not stored"
    );
    assert_eq!(receiver.next().await.id, after);
    wait_for_deliveries(&hub, &subscription, "delivered", 2).await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn results_that_could_not_be_recorded_are_recorded_when_postgres_is_back() {
    let (hub, proxy) = behind_a_proxy().await;
    let gate = Gate::closed().await;
    let subscription =
        hub.subscribe(&json!({"event_types": ["n"], "callback_url": gate.url()})).await;
    hub.publish_many("n", 10).await;
    gate.wait_until_held(10).await;
    proxy.disconnect();
    gate.release_all();
    gate.wait_for("all were let pass", |seen| seen.held == 0).await;
    proxy.reconnect();
    eventually("the hub is ready", async || (hub.get("/readyz").await.status == 200).then_some(()))
        .await;
    wait_for_deliveries(&hub, &subscription, "delivered", 10).await;
    assert_eq!(gate.state().arrived.len(), 10, "no event was sent twice");
}

#[tokio::test]
async fn a_publish_whose_connection_drops_during_the_commit_is_in_the_log_once() {
    for (word, at) in [
        ("cut-before-the-server", DisconnectAt::Request),
        ("cut-before-the-answer", DisconnectAt::Response),
    ] {
        let (hub, proxy) = behind_a_proxy().await;
        let mut receiver = TestReceiver::start().await;
        hub.subscribe(&receiver.subscription_to("n")).await;
        proxy.disconnect_once_on(word, at);
        let response = hub.post("/v1/events", &json!({"type": "n", "data": word})).await;
        assert!(proxy.has_triggered(), "{word}");
        let id = string_at(&response.expect(202), "/id");
        assert_eq!(receiver.next().await.id, id);
        assert_eq!(count(&hub, word).await, 1, "{word}");
        let next = hub.publish("n", json!("next")).await;
        assert_eq!(receiver.next().await.id, next);
    }
}

#[tokio::test]
async fn an_event_whose_commit_stays_unknown_is_in_the_log_at_most_once() {
    for at in [DisconnectAt::Request, DisconnectAt::Response] {
        let (hub, proxy) = behind_a_proxy().await;
        let mut receiver = TestReceiver::start().await;
        hub.subscribe(&receiver.subscription_to("n")).await;
        proxy.disconnect_on("the-word", at);
        let event = json!({"type": "n", "data": "the-word"});
        let unknown = hub.post_idempotent("/v1/events", "one-key", &event).await;
        let problem = unknown.expect_problem(503, "unavailable");
        assert!(
            proxy.has_triggered() && string_at(&problem, "/detail").contains("Idempotency-Key"),
            "{problem}"
        );

        proxy.reconnect();
        let id = eventually("publishing continues", async || {
            let again = hub.post_idempotent("/v1/events", "one-key", &event).await;
            (again.status == 202).then(|| string_at(&again.expect(202), "/id"))
        })
        .await;
        assert_eq!(receiver.next().await.id, id);
        assert_eq!(count(&hub, "the-word").await, 1, "{at:?}");
    }
}

#[tokio::test]
async fn a_subscription_change_that_is_cut_off_is_applied_once() {
    for (word, at) in [
        ("https://example.com/request", DisconnectAt::Request),
        ("https://example.com/answer", DisconnectAt::Response),
    ] {
        let (hub, proxy) = behind_a_proxy().await;
        proxy.disconnect_once_on(word, at);
        let created = hub
            .post("/v1/subscriptions", &json!({"event_types": ["n"], "callback_url": word}))
            .await
            .expect(201);
        assert!(proxy.has_triggered());
        let listed = hub.list_all("/v1/subscriptions").await;
        assert_eq!((listed.len(), &listed[0]["id"]), (1, &created["id"]));
        hub.publish("after", json!(1)).await;
        let entries = eventually("the log up to this event", async || {
            let entries = hub.list_all("/v1/events?types=hookhub.subscription.*,after").await;
            (entries.last()?["type"] == "after").then_some(entries)
        })
        .await;
        assert_eq!(entries.len(), 2, "{entries:?}");
    }
}

#[tokio::test]
async fn a_stalled_database_connection_delays_events_and_loses_none() {
    let (hub, proxy) = behind_a_proxy().await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("n")).await;
    let first = hub.publish("n", json!("first")).await;
    assert_eq!(receiver.next().await.id, first);
    proxy.stall();
    let event = json!({"type": "n", "data": "stalled"});
    let publish = hub.post("/v1/events", &event);
    let mend = async {
        // `/healthz` needs no database: a stalled connection does not block the hub.
        for _ in 0..20 {
            hub.get("/healthz").await.expect(200);
        }
        proxy.reconnect();
    };
    let (response, ()) = tokio::join!(publish, mend);
    let id = string_at(&response.expect(202), "/id");
    assert_eq!(receiver.next().await.id, id);
    assert_eq!(count(&hub, "stalled").await, 1);
}

#[tokio::test]
async fn repeated_database_disconnects_under_load_lose_and_duplicate_no_event() {
    let (hub, proxy) = behind_a_proxy().await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("n")).await;
    let accepted = flood(&hub, 600, async || {
        for n in 0..10 {
            if n % 2 == 0 {
                proxy.disconnect();
            } else {
                proxy.reconnect();
            }
            let health: Value = hub.get("/healthz").await.expect(200);
            assert_eq!(health["status"], "ok");
        }
        proxy.reconnect();
    })
    .await;
    let repeats = Arrivals::of(&mut receiver, &accepted).await.repeats;
    assert_eq!(repeats, 0);
    let kept = hub.list_all("/v1/events?types=n").await;
    wait_for_deliveries(&hub, &subscription, "delivered", kept.len()).await;
    let ids: Vec<_> = kept.iter().map(|event| string_at(event, "/id")).collect();
    assert!(accepted.iter().all(|id| ids.contains(id)));
}
