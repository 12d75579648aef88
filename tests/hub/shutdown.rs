//! Graceful shutdown: accept no more work, finish what is in flight, record it, within the deadline.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::client::{string_at, try_send_request};
use crate::support::database::Database;
use crate::support::gate::Gate;
use crate::support::hub::TestHub;
use crate::support::process::{Environment, HubProcess};
use crate::support::receiver::{TestReceiver, sorted};
use crate::support::waits::{wait_for_deliveries, wait_for_delivery};
use crate::support::{eventually, in_time};

#[tokio::test]
async fn deliveries_in_flight_are_finished_and_recorded_before_the_hub_stops() {
    let hub = TestHub::start().await;
    let gate = Gate::closed().await;
    let definition = json!({"event_types": ["n"], "callback_url": gate.url()});
    let subscription = hub.subscribe(&definition).await;
    let ids = hub.publish_many("n", 5).await;
    gate.wait_until_held(5).await;
    let probe = hub.request(reqwest::Method::GET, "/healthz");
    let finish = async {
        eventually("the hub accepts no more requests", async || {
            let probe = probe.try_clone().unwrap();
            let response = try_send_request(probe.timeout(Duration::from_secs(2))).await;
            response.is_err().then_some(())
        })
        .await;
        gate.release_all();
    };
    let (database, ()) = in_time("the hub stops", async { tokio::join!(hub.stop(), finish) }).await;
    assert_eq!(gate.state().held, 0);

    let hub = TestHub::start_on(&database, |_| ()).await;
    wait_for_deliveries(&hub, &subscription, "delivered", 5).await;
    let last = hub.publish("n", json!("last")).await;
    wait_for_delivery(&hub, &subscription, &last, "delivered").await;
    let mut expected = ids;
    expected.push(last);
    assert_eq!(sorted(gate.state().arrived), expected, "no event is sent twice");
}

#[tokio::test]
async fn deliveries_unfinished_at_the_stop_deadline_are_made_again_after_the_restart() {
    let hub =
        TestHub::start_with(|settings| settings.stop_deadline = Duration::from_millis(500)).await;
    let gate = Gate::closed().await;
    let definition = json!({"event_types": ["n"], "callback_url": gate.url()});
    let subscription = hub.subscribe(&definition).await;
    let event = hub.publish("n", json!(1)).await;
    gate.wait_until_held(1).await;
    let database = in_time("the hub stops at its deadline", hub.stop()).await;

    gate.release_all();
    let hub = TestHub::start_on(&database, |_| ()).await;
    wait_for_delivery(&hub, &subscription, &event, "delivered").await;
    assert_eq!(gate.state().arrived, [event.clone(), event]);
}

#[tokio::test]
async fn an_idle_hub_stops_at_once() {
    let hub =
        TestHub::start_with(|settings| settings.stop_deadline = Duration::from_secs(3_600)).await;
    let mut receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("n")).await;
    hub.publish("n", json!(1)).await;
    receiver.next().await;
    in_time("the hub stops", hub.stop()).await;
}

#[tokio::test]
async fn publishes_accepted_during_a_shutdown_are_in_the_log() {
    let hub = TestHub::start().await;
    let client = hub.clone();
    let flood = async {
        let mut accepted = Vec::new();
        loop {
            let body = json!({"type": "n", "data": accepted.len()}).to_string();
            let request = client
                .request(reqwest::Method::POST, "/v1/events")
                .header("content-type", "application/json");
            match try_send_request(request.body(body)).await {
                Ok(response) if response.status == 202 => {
                    accepted.push(string_at(&response.expect(202), "/id"));
                }
                Ok(response) => assert_eq!(response.status, 503, "{}", response.body),
                Err(_gone) => return accepted,
            }
        }
    };
    let (database, accepted) = in_time("both end", async { tokio::join!(hub.stop(), flood) }).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let kept: Vec<_> =
        hub.list_all("/v1/events").await.iter().map(|event| string_at(event, "/id")).collect();
    assert!(accepted.iter().all(|id| kept.contains(id)));
}

#[tokio::test]
async fn the_program_exits_cleanly_on_sigint_and_sigterm() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let hub = HubProcess::start(&environment).await;
        hub.client.publish("n", json!(1)).await;
        hub.program.signal(signal);
        let (status, output) = hub.program.wait_for_end().await;
        assert!(status.success(), "{signal}: {status}\n{output}");
    }
}
