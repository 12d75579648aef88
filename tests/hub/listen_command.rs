//! `hookhub listen` forwards the hub's events to a local URL.

use std::time::Duration;

use hookhub::domain::signing::secret::Secret;
use hookhub::tools::listen::{ListenSettings, StartPoint};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::support::database::Database;
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::in_time;
use crate::support::process::{Environment, HubProcess, Program};
use crate::support::raw_http::{RawServer, read_head};
use crate::support::receiver::{SECRET, TestReceiver};
use crate::support::unreliable_proxy::UnreliableProxy;

/// The start of a stream, with one event.
const SILENT_STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 1\n\n\
    id: evt_0000000000007\n\
    data: {\"id\":\"evt_0000000000007\",\"type\":\"n\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"data\":1}\n\n";

fn listen(hub: std::net::SocketAddr, more: &[&str]) -> Program {
    let environment = Environment::default()
        .with("HOOKHUB_URL", &format!("http://{hub}"))
        .with("HOOKHUB_KEY", ADMIN_KEY)
        .with("HOOKHUB_LISTEN_SECRET", SECRET);
    Program::start(&[&["listen"], more].concat(), &environment)
}

/// A server that sends each connection the same response and keeps it open; and the heads of its requests.
async fn heads(response: &'static [u8]) -> (RawServer, mpsc::Receiver<String>) {
    let (heads, requests) = mpsc::channel(16);
    let server = RawServer::start(move |mut stream| {
        let heads = heads.clone();
        async move {
            let Some((head, _)) = read_head(&mut stream).await else { return };
            drop(heads.send(String::from_utf8_lossy(&head).into_owned()).await);
            drop(stream.write_all(response).await);
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        }
    });
    (server.await, requests)
}

#[tokio::test]
async fn hookhub_listen_posts_each_event_signed_and_prints_the_response() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::responding(&[200, 503]).await;
    let program = listen(
        hub.address(),
        &["--types", "order.*,invoice.paid", "--forward-to", &receiver.url()],
    );
    program.wait_for_line("connected").await;
    hub.publish("user.created", json!(1)).await;
    let paid = hub.publish("order.paid", json!({"amount": 7})).await;
    let invoice = hub.publish("invoice.paid", json!(2)).await;
    let delivery = receiver.next().await;
    let expected = hub.get(&format!("/v1/events/{paid}")).await.body;
    assert_eq!((&*delivery.id, &*delivery.body), (&*paid, expected.as_bytes()));
    assert_eq!(
        (&*delivery.path, delivery.header("content-type")),
        ("/hooks", Some("application/json"))
    );
    let line = program.wait_for_line(&paid).await;
    assert!(line.contains("order.paid") && line.contains("→ 200 OK ("), "{line}");
    assert_eq!(receiver.next().await.id, invoice);
    let line = program.wait_for_line(&invoice).await;
    assert!(line.contains("→ 503 Service Unavailable ("), "{line}");
    program.signal(Signal::SIGINT);
    let (status, output) = program.wait_for_end().await;
    assert!(status.success() && !output.contains("user.created"), "{output}");
    assert!(!output.contains(SECRET) && !output.contains(ADMIN_KEY), "{output}");
}

#[tokio::test]
async fn hookhub_listen_since_replays_existing_events_first() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 5).await;
    for (since, expected) in [("1h", &ids[..]), ("earliest", &ids[..]), (&*ids[2], &ids[3..])] {
        let mut receiver = TestReceiver::start().await;
        let program = listen(hub.address(), &["--since", since, "--forward-to", &receiver.url()]);
        assert_eq!(receiver.next_ids(expected.len()).await, expected);
        program.kill().await;
        assert!(receiver.drain().is_empty());
    }
}

#[tokio::test]
async fn hookhub_listen_without_a_url_only_prints_events() {
    let hub = TestHub::start().await;
    let id = hub.publish("n", json!("so\u{1b}[2J it is")).await;
    let program = listen(hub.address(), &["--since", "earliest"]);
    let line = program.wait_for_line(&id).await;
    assert!(line.contains("so") && !line.contains('\u{1b}'), "{line:?}");
    program.signal(Signal::SIGTERM);
    assert!(program.wait_for_end().await.0.success());
}

#[tokio::test]
async fn hookhub_listen_posts_each_event_once_across_cut_connections() {
    let hub = TestHub::start().await;
    let proxy = UnreliableProxy::to(hub.address(), |n| 700 + 450 * (n % 5)).await;
    let mut receiver = TestReceiver::start().await;
    let published = hub.publish_many("n", 12).await;
    let program = listen(proxy.address, &["--since", "earliest", "--forward-to", &receiver.url()]);
    assert_eq!(receiver.next_ids(published.len()).await, published);
    let last = hub.publish("n", json!("last")).await;
    assert_eq!(receiver.next_ids(1).await, [last]);
    assert!(proxy.connections() > 2, "{}", proxy.connections());
    program.wait_for_line("not connected").await;
    program.kill().await;
}

#[tokio::test]
async fn hookhub_listen_resumes_after_a_restart_even_before_the_first_event() {
    let data_dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    let hub = HubProcess::start(&environment).await;
    let environment = environment.with("HOOKHUB_LISTEN", &hub.address.to_string());
    let mut receiver = TestReceiver::start().await;
    let program = listen(hub.address, &["--forward-to", &receiver.url()]);
    program.wait_for_line("connected to").await;
    hub.program.kill().await;
    program.wait_for_line("not connected").await;
    let hub = HubProcess::start(&environment).await;
    let first = hub.client.publish("n", json!(1)).await;
    assert_eq!(receiver.next_ids(1).await, [first]);
    program.kill().await;
    hub.program.kill().await;
}

#[tokio::test]
async fn hookhub_listen_reports_an_unreachable_receiver_and_continues() {
    let hub = TestHub::start().await;
    let ids = hub.publish_many("n", 2).await;
    let nobody = "http://127.0.0.1:9009/hooks";
    let program = listen(hub.address(), &["--since", "earliest", "--forward-to", nobody]);
    for id in ids {
        let line = program.wait_for_line(&id).await;
        assert!(line.contains("FAILED") && line.contains("refused"), "{line}");
    }
    program.kill().await;
}

#[tokio::test]
async fn hookhub_listen_exits_with_the_reason_when_the_hub_refuses() {
    let hub = TestHub::start().await;
    let url = format!("http://{}", hub.address());
    let (status, output) =
        Program::start(&["listen", "--hub", &url, "--key", "wrong"], &Environment::default())
            .wait_for_end()
            .await;
    assert!(!status.success() && output.contains("401"), "{output}");
}

#[tokio::test]
async fn hookhub_listen_reports_a_gap_without_posting_it() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.publish("n", json!(1)).await;
    let unknown = ["--since", "evt_7ZZZZZZZZZZZZ", "--forward-to", &receiver.url()];
    let program = listen(hub.address(), &unknown);
    program.wait_for_line("events are missing").await;
    assert_eq!(receiver.next_ids(1).await, [id]);
    program.kill().await;
    assert!(receiver.drain().is_empty());
}

#[tokio::test]
async fn hookhub_listen_cuts_off_an_endless_event() {
    let mut response = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ".to_vec();
    response.resize(34 << 20, b'x');
    let (server, _requests) = heads(response.leak()).await;
    let arguments = ["listen", "--hub", &server.url(), "--key", "k", "--since", "1h"];
    let program = Program::start(&arguments, &Environment::default());
    program.wait_for_line("larger than 32 MiB").await;
    program.kill().await;
}

#[tokio::test]
async fn hookhub_listen_names_an_invalid_argument() {
    for (option, value) in [
        ("--since", "yesterday"),
        ("--types", "a..b"),
        ("--forward-to", "ftp://x/"),
        ("--hub", "nowhere"),
        ("--hub", "http://user:word@localhost/"),
        ("--hub", "http://localhost/?a=b"),
        ("--secret", "whsec_short"),
    ] {
        let arguments = ["listen", "--key", "k", option, value];
        let (status, output) =
            Program::start(&arguments, &Environment::default()).wait_for_end().await;
        assert!(!status.success() && output.contains(option), "{output}");
    }
    let (status, output) =
        Program::start(&["listen"], &Environment::default()).wait_for_end().await;
    assert!(!status.success() && output.contains("--key"), "{output}");
}

#[tokio::test]
async fn hookhub_listen_reconnects_after_silence_and_resumes_after_the_last_event() {
    let (hub, mut requests) = heads(SILENT_STREAM).await;
    let settings = ListenSettings {
        hub: hub.url().parse().expect("a URL"),
        key: ADMIN_KEY.to_owned(),
        types: Vec::new(),
        since: Some(StartPoint::Earliest),
        forward_to: None,
        secret: SECRET.parse().expect("a secret"),
        hub_timeout: Duration::from_secs(3),
    };
    let connections = async {
        let first = in_time("a connection", requests.recv()).await.unwrap();
        assert!(first.contains("after=earliest"), "{first}");
        let second = in_time("another connection", requests.recv()).await.unwrap();
        assert!(second.contains("after=evt_0000000000007"), "{second}");
    };
    tokio::select! {
        () = connections => {}
        ended = hookhub::tools::listen::listen(settings, |_line| {}) => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn hookhub_listen_exits_with_the_reason_when_the_server_is_not_a_hub_or_gone() {
    for (response, expected) in [
        ("200 OK\r\ncontent-type: text/html", "text/html, not with an event stream"),
        ("308 Permanent Redirect\r\nlocation: https://hub.example/v1/", "https://hub.example/v1/"),
        ("404 Not Found", "404 Not Found"),
    ] {
        let response = format!("HTTP/1.1 {response}\r\ncontent-length: 0\r\n\r\n");
        let (server, _requests) = heads(response.leak().as_bytes()).await;
        let arguments = ["listen", "--hub", &server.url(), "--key", "k", "--since", "1h"];
        let (status, output) =
            Program::start(&arguments, &Environment::default()).wait_for_end().await;
        assert!(!status.success() && output.contains(expected), "{output}");
    }
}

#[tokio::test]
async fn hookhub_listen_rejects_an_invalid_key_without_printing_it() {
    for key in ["", " ", "plan\nted"] {
        let environment = Environment::default().with("HOOKHUB_KEY", key);
        let (status, output) = Program::start(&["listen"], &environment).wait_for_end().await;
        assert!(!status.success() && output.contains("HOOKHUB_KEY (--key)"), "{output}");
        assert!(!output.contains("ted"), "{output}");
    }
}

#[tokio::test]
async fn hookhub_listen_generates_a_secret_and_prints_it_once() {
    let hub = TestHub::start().await;
    let url = format!("http://{}", hub.address());
    let id = hub.publish("n", json!(1)).await;
    let (receiver, mut posts) = heads(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let arguments = ["listen", "--hub", &url, "--key", ADMIN_KEY, "--since", "1h", "--forward-to"];
    let program =
        Program::start(&[&arguments[..], &[&receiver.url()]].concat(), &Environment::default());
    let post = in_time("a POST", posts.recv()).await.unwrap();
    program.wait_for_line(&id).await;
    program.signal(Signal::SIGTERM);
    let (status, output) = program.wait_for_end().await;
    assert!(status.success() && output.matches("whsec_").count() == 1, "{output}");
    let printed_secret = output.split_whitespace().find(|word| word.starts_with("whsec_"));
    let secret: Secret = printed_secret.unwrap().parse().unwrap();
    let at = post.lines().find_map(|line| line.strip_prefix("webhook-timestamp: ")).unwrap();
    let body = hub.get(&format!("/v1/events/{id}")).await.body;
    let signature = secret.sign(&id, at.parse().unwrap(), body.as_bytes());
    assert!(post.contains(&format!("webhook-signature: {signature}\r\n")), "{post}");
}
