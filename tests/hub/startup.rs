//! Startup: invalid settings, the generated admin key, concurrent first starts, and the content of the logs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::client::Client;
use crate::support::database::Database;
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::process::{Environment, HubProcess, Program};
use crate::support::receiver::{SECRET, TestReceiver, sorted};

#[tokio::test]
async fn an_invalid_setting_stops_the_start_with_one_line_that_names_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let good =
        Environment::for_hub(data_dir.path()).with("DATABASE_URL", "postgres://127.0.0.1:1/none");
    for (name, value) in [
        ("HOOKHUB_LISTEN", "everywhere"),
        ("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8,home"),
        ("HOOKHUB_DENY_TARGETS", "https://example.com"),
        ("HOOKHUB_ONLY_TARGETS", "*"),
        ("HOOKHUB_ALLOW_PORTS", "ssh"),
        ("HOOKHUB_ONLY_PORTS", "443,65536"),
        ("HOOKHUB_HTTPS_ONLY", "perhaps"),
        ("HOOKHUB_EGRESS_PROXY", "socks5://127.0.0.1:1080"),
        ("HOOKHUB_RETRY_SCHEDULE_S", "5,soon"),
        ("HOOKHUB_GIVE_UP_AFTER_S", "-1"),
        ("HOOKHUB_MAX_EVENT_BYTES", "lots"),
        ("HOOKHUB_STOP_DEADLINE_S", "x"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("HOOKHUB_ADMIN_KEY", "too short"),
        ("HOOKHUB_LOG", "a=b=c"),
        ("HOOKHUB_LOG_FORMAT", "xml"),
    ] {
        let (status, output) =
            Program::start(&["serve"], &good.clone().with(name, value)).wait_for_end().await;
        assert!(!status.success(), "{name}={value}");
        let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(lines.len(), 1, "{name}={value}: {output}");
        assert!(lines[0].contains(name), "{name}={value}: {output}");
    }
}

#[tokio::test]
async fn a_listen_address_in_use_is_named() {
    let data_dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", hub.database.url())
        .with("HOOKHUB_LISTEN", &address);
    let (status, output) = Program::start(&["serve"], &environment).wait_for_end().await;
    assert!(
        !status.success() && output.contains("HOOKHUB_LISTEN") && output.contains(&address),
        "{output}"
    );
}

#[tokio::test]
async fn a_generated_admin_key_is_printed_once_and_readable_only_by_its_owner() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", database.url())
        .without("HOOKHUB_ADMIN_KEY");
    let hub = HubProcess::start(&environment).await;
    let files = fs::read_dir(data_dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files
        .filter(|path| path.is_file())
        .find(|path| path.to_string_lossy().contains("key"))
        .unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(hub.program.output().contains(&key));
    let client = Client::new(hub.address, &key);
    client.publish("a", json!(1)).await;
    hub.program.kill().await;

    let again = HubProcess::start(&environment).await;
    assert!(!again.program.output().contains(&key), "the key is printed once");
    Client::new(again.address, &key).publish("a", json!(2)).await;
    again.client.get("/v1/events").await.expect_problem(401, "unauthorized");
    again.program.kill().await;
}

#[tokio::test]
async fn nodes_that_start_together_on_an_empty_database_all_become_ready() {
    let database = Database::create().await;
    let hubs = join_all((0..3).map(|_| TestHub::start_on(&database, |_| ()))).await;
    let mut receiver = TestReceiver::start().await;
    hubs[0].subscribe(&receiver.subscription_to("n")).await;
    let mut ids = Vec::new();
    for hub in &hubs {
        ids.push(hub.publish("n", json!(1)).await);
    }
    assert_eq!(sorted(receiver.next_ids(3).await), ids);
    assert_eq!(hubs[2].list_all("/v1/events").await.len(), 3);
}

#[tokio::test]
async fn logs_contain_neither_secrets_nor_payloads() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let mut receiver = TestReceiver::responding(&[500, 200]).await;
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", database.url())
        .with("HOOKHUB_LOG", "hookhub=trace");
    let hub = HubProcess::start(&environment).await;
    let definition = json!({
        "event_types": ["a"], "callback_url": format!("{}/planted-in-path?q=planted-in-query", receiver.url()),
        "secret": SECRET, "headers": {"authorization": "Bearer planted-in-header"}, "metadata": {"k": "planted-in-metadata"},
    });
    hub.client.subscribe(&definition).await;
    hub.client.publish("a", json!("planted-in-data")).await;
    hub.client.with_key(Some("planted-in-key")).get("/v1/events").await;
    hub.client.get("/v1/events?types=planted-in-query..").await;
    receiver.take(2).await;
    hub.program.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, output) = hub.program.wait_for_end().await;
    for planted in ["planted", ADMIN_KEY, SECRET.trim_start_matches("whsec_")] {
        assert!(!output.contains(planted), "{planted}: {output}");
    }
}
