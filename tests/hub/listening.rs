//! `hookhub listen`: the hub's events at a URL on this side.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::database::Database;
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::process::{Environment, HubProcess, Program};
use crate::support::receiver::{SECRET, TestReceiver};
use crate::support::wire::BreakingWire;

fn listen(hub: std::net::SocketAddr, more: &[&str]) -> Program {
    let environment = Environment::default()
        .with("HOOKHUB_URL", &format!("http://{hub}"))
        .with("HOOKHUB_KEY", ADMIN_KEY)
        .with("HOOKHUB_LISTEN_SECRET", SECRET);
    Program::start(&[&["listen"], more].concat(), &environment)
}

#[tokio::test]
async fn each_event_is_posted_signed_and_printed_with_its_answer() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::answering(&[200, 503]).await;
    let program = listen(
        hub.address(),
        &["--types", "order.*,invoice.paid", "--forward-to", &receiver.url()],
    );
    program.line_with("connected").await;
    hub.publish("user.created", json!(1)).await;
    let paid = hub.publish("order.paid", json!({"amount": 7})).await;
    let invoice = hub.publish("invoice.paid", json!(2)).await;
    let delivery = receiver.next().await;
    let expected = hub.get(&format!("/v1/events/{paid}")).await.text;
    assert_eq!((&*delivery.id, &*delivery.body), (&*paid, expected.as_bytes()));
    assert_eq!(
        (&*delivery.path, delivery.header("content-type")),
        ("/hooks", Some("application/json"))
    );
    let line = program.line_with(&paid).await;
    assert!(line.contains("order.paid") && line.contains("→ 200 OK ("), "{line}");
    assert_eq!(receiver.next().await.id, invoice);
    let line = program.line_with(&invoice).await;
    assert!(line.contains("→ 503 Service Unavailable ("), "{line}");
    program.signal(Signal::SIGINT);
    let (status, output) = program.end().await;
    assert!(status.success() && !output.contains("user.created"), "{output}");
    assert!(!output.contains(SECRET) && !output.contains(ADMIN_KEY), "{output}");
}

#[tokio::test]
async fn since_replays_what_there_is_first() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 5).await;
    for (since, expected) in [("1h", &ids[..]), ("earliest", &ids[..]), (&*ids[2], &ids[3..])] {
        let mut receiver = TestReceiver::start().await;
        let program = listen(hub.address(), &["--since", since, "--forward-to", &receiver.url()]);
        assert_eq!(receiver.take_ids(expected.len()).await, expected);
        program.kill().await;
        assert!(receiver.more().is_empty());
    }
}

#[tokio::test]
async fn without_a_url_events_are_only_printed() {
    let hub = TestHub::start().await;
    let id = hub.publish("n", json!("so\u{1b}[2J it is")).await;
    let program = listen(hub.address(), &["--since", "earliest"]);
    let line = program.line_with(&id).await;
    assert!(line.contains("so") && !line.contains('\u{1b}'), "{line:?}");
    program.signal(Signal::SIGTERM);
    assert!(program.end().await.0.success());
}

#[tokio::test]
async fn over_a_wire_that_breaks_all_comes_once() {
    let hub = TestHub::start().await;
    let wire = BreakingWire::to(hub.address(), |n| 700 + 450 * (n % 5)).await;
    let mut receiver = TestReceiver::start().await;
    let published = hub.publish_many("n", 12).await;
    let program = listen(wire.address, &["--since", "earliest", "--forward-to", &receiver.url()]);
    assert_eq!(receiver.take_ids(published.len()).await, published);
    let last = hub.publish("n", json!("last")).await;
    assert_eq!(receiver.take_ids(1).await, [last]);
    assert!(wire.connections() > 2, "{}", wire.connections());
    program.line_with("not connected").await;
    program.kill().await;
}

#[tokio::test]
async fn a_hub_that_is_restarted_is_followed_from_where_it_was_also_before_the_first_event() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let environment = Environment::of_a_hub(data_dir.path()).with("DATABASE_URL", database.url());
    let hub = HubProcess::start(&environment).await;
    let environment = environment.with("HOOKHUB_LISTEN", &hub.address.to_string());
    let mut receiver = TestReceiver::start().await;
    let program = listen(hub.address, &["--forward-to", &receiver.url()]);
    program.line_with("connected to").await;
    hub.program.kill().await;
    program.line_with("not connected").await;
    let hub = HubProcess::start(&environment).await;
    let first = hub.client.publish("n", json!(1)).await;
    assert_eq!(receiver.take_ids(1).await, [first]);
    program.kill().await;
    hub.program.kill().await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_and_the_next_event_is_tried() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 2).await;
    let nobody = "http://127.0.0.1:1/hooks";
    let program = listen(hub.address(), &["--since", "earliest", "--forward-to", nobody]);
    for id in ids {
        let line = program.line_with(&id).await;
        assert!(line.contains("FAILED") && line.contains("refused"), "{line}");
    }
    program.kill().await;
}

#[tokio::test]
async fn a_hub_that_refuses_ends_it_with_the_reason() {
    let hub = TestHub::start().await;
    let url = format!("http://{}", hub.address());
    let (status, output) =
        Program::start(&["listen", "--hub", &url, "--key", "wrong"], &Environment::default())
            .end()
            .await;
    assert!(!status.success() && output.contains("401"), "{output}");
    let unknown = ["listen", "--hub", &url, "--key", ADMIN_KEY, "--since", "evt_7ZZZZZZZZZZZZ"];
    let program = Program::start(&unknown, &Environment::default());
    program.line_with("events are missing here").await;
    program.kill().await;
}

#[tokio::test]
async fn an_argument_that_cannot_be_is_refused_by_name() {
    for (option, value) in [
        ("--since", "yesterday"),
        ("--types", "a..b"),
        ("--forward-to", "ftp://x/"),
        ("--hub", "nowhere"),
        ("--secret", "whsec_short"),
    ] {
        let arguments = ["listen", "--key", "k", option, value];
        let (status, output) = Program::start(&arguments, &Environment::default()).end().await;
        assert!(!status.success() && output.contains(option), "{output}");
    }
    let (status, output) = Program::start(&["listen"], &Environment::default()).end().await;
    assert!(!status.success() && output.contains("--key"), "{output}");
}
