//! Deliveries through an egress proxy: all are tunnels, and no response of the proxy counts as the receiver's.

use hookhub::config::Settings;
use hookhub::domain::egress::policy::AllowedTargets;
use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::client::{merged, string_at};
use crate::support::connect_proxy::{ConnectBehaviour, ConnectProxy};
use crate::support::database::Database;
use crate::support::hub::{TestHub, every};
use crate::support::misbehaving_receiver::ClosedPort;
use crate::support::process::{Environment, HubProcess};
use crate::support::receiver::{LONG_DELAY, SECRET, TestReceiver};
use crate::support::scripted_server::{Reply, ScriptedServer};
use crate::support::tls_receiver::{ClientAuth, TlsReceiver, sha256_of};
use crate::support::waits::{wait_for_attempts, wait_for_deliveries, wait_for_delivery};

/// A hub that may only call public addresses, uses a proxy, and makes one attempt.
async fn behind(proxy: &str) -> TestHub {
    TestHub::start_with(|settings| go_by(settings, proxy)).await
}

fn go_by(settings: &mut Settings, proxy: &str) {
    settings.egress.targets.allow = AllowedTargets::default();
    settings.egress.proxy = Some(proxy.parse().expect("a proxy"));
    settings.retry_schedule = every(LONG_DELAY);
}

fn address_of(url: &str) -> std::net::SocketAddr {
    let address = url.split('/').nth(2).expect("an address");
    address.parse().expect("an address and a port")
}

#[tokio::test]
async fn http_deliveries_are_tunnelled_and_only_the_proxy_sees_its_credentials() {
    let mut receiver = TestReceiver::start().await;
    let proxy = ConnectProxy::start(ConnectBehaviour::TunnelTo(address_of(&receiver.url()))).await;
    let hub = behind(&format!("http://us%65r:p%40ss@{}", proxy.address())).await;
    // Only the proxy can resolve this name.
    let definition = merged(
        receiver.subscription_to("a"),
        json!({"callback_url": "http://receiver.invalid/hooks"}),
    );
    let id = hub.subscribe(&definition).await;
    for round in 1..=3 {
        let event = hub.publish("a", json!(round)).await;
        let delivery = receiver.next().await;
        assert_eq!((&delivery.id, &*delivery.path), (&event, "/hooks"));
        assert_eq!(delivery.header("host"), Some("receiver.invalid"));
        assert_eq!(delivery.header("proxy-authorization"), None);
        assert_eq!(
            delivery.header("user-agent"),
            Some(concat!("hookhub/", env!("CARGO_PKG_VERSION")))
        );
        wait_for_deliveries(&hub, &id, "delivered", round).await;
    }
    let requests = proxy.requests();
    assert_eq!(requests.len(), 1, "a tunnel is kept: {requests:?}");
    assert!(requests[0].head.starts_with("CONNECT receiver.invalid:80 HTTP/1.1\r\n"));
    // user:p@ss
    assert_eq!(requests[0].header("proxy-authorization").as_deref(), Some("Basic dXNlcjpwQHNz"));
}

#[tokio::test]
async fn tls_to_the_receiver_runs_inside_the_tunnel() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let receiver =
        TlsReceiver::start(&authority.issue("receiver.invalid"), ClientAuth::Required(&clients))
            .await;
    let proxy = ConnectProxy::start(ConnectBehaviour::TunnelTo(address_of(&receiver.url()))).await;
    let hub = behind(&format!("http://{}", proxy.address())).await;
    let identity = clients.issue("hub.example");
    let tls = json!({
        "ca": authority.pem(), "client_certificate": identity.certificate, "client_key": identity.key
    });
    let definition = json!({
        "event_types": ["a"], "callback_url": "https://receiver.invalid/", "tls": tls
    });
    let id = hub.subscribe(&definition).await;
    let untrusting = hub.subscribe(&merged(definition, json!({"tls": null}))).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &id, &event, "delivered").await;
    assert_eq!(receiver.requests()[0].client_certificate, Some(sha256_of(&identity.certificate)));
    let attempts = wait_for_attempts(&hub, &untrusting, &event, 1).await;
    assert_eq!(string_at(&attempts[0], "/error"), "tls");
    let requests = proxy.requests();
    assert!(requests.iter().all(|one| one.head.starts_with("CONNECT receiver.invalid:443 ")));
    assert!(requests.iter().all(|one| one.header("proxy-authorization").is_none()));
}

/// Responses of a proxy to CONNECT: the requested name, the response, and the expected detail of the attempt.
const PROXY_RESPONSES: [(&str, &str, &str); 6] = [
    (
        "wants-credentials",
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "the egress proxy answered 407 to CONNECT",
    ),
    (
        "refuses",
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        "the egress proxy answered 403 to CONNECT",
    ),
    ("cannot", "HTTP/1.1 502 Bad Gateway\r\n\r\n", "the egress proxy answered 502 to CONNECT"),
    ("gone", "HTTP/1.1 410 Gone\r\n\r\n", "the egress proxy answered 410 to CONNECT"),
    ("other", "SSH-2.0-OpenSSH_9.6\r\n", "the egress proxy did not answer CONNECT"),
    (
        "forestalls",
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "the egress proxy did not answer CONNECT",
    ),
];

fn behaviour_for(address_of: &str) -> ConnectBehaviour {
    let word = PROXY_RESPONSES.iter().find(|(name, ..)| address_of.starts_with(name));
    word.map_or(ConnectBehaviour::NeverRespond, |(_, response, _)| {
        ConnectBehaviour::RespondWith(response)
    })
}

#[tokio::test]
async fn a_response_of_the_proxy_is_a_connection_failure_and_never_a_response_of_the_receiver() {
    let proxy = ConnectProxy::start(ConnectBehaviour::ByTarget(behaviour_for)).await;
    let hub = behind(&format!("http://user:planted@{}", proxy.address())).await;
    let words =
        PROXY_RESPONSES.map(|(name, _, expected_detail)| (name, "connect", expected_detail));
    let mut expected = Vec::new();
    for (name, class, expected_detail) in words.into_iter().chain([("hangs", "timeout", "")]) {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{name}.invalid/");
            let definition = json!({"event_types": ["a"], "callback_url": url, "timeout_s": 2});
            expected.push((hub.subscribe(&definition).await, class, expected_detail));
        }
    }
    let event = hub.publish("a", json!(1)).await;
    for (id, class, expected_detail) in expected {
        let attempt = wait_for_attempts(&hub, &id, &event, 1).await.remove(0);
        must_have_failed(&attempt, class, expected_detail);
        assert_eq!(string_at(&hub.subscription(&id).await, "/status"), "active");
    }
}

fn must_have_failed(attempt: &Value, class: &str, expected_detail: &str) {
    assert_eq!(attempt.pointer("/status_code"), Some(&Value::Null), "{attempt}");
    assert_eq!(string_at(attempt, "/error"), class, "{attempt}");
    let detail = string_at(attempt, "/error_detail");
    assert!(detail.starts_with(expected_detail) && !detail.contains("planted"), "{detail}");
}

#[tokio::test]
async fn an_unreachable_proxy_is_a_connection_failure() {
    let closed = ClosedPort::bind();
    let hub = behind(&format!("http://user:planted@{}", address_of(&closed.url()))).await;
    let definition = json!({"event_types": ["a"], "callback_url": "https://receiver.invalid/"});
    let id = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    let attempt = wait_for_attempts(&hub, &id, &event, 1).await.remove(0);
    must_have_failed(&attempt, "connect", "the egress proxy cannot be used: ");
}

/// Names that the hosts file maps to this machine, other than `localhost`.
fn names_here() -> Vec<String> {
    let table = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = table.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let mut words = line.split_whitespace();
        let local = words.next().is_some_and(|address| address.starts_with("127."));
        words.filter(move |name| local && !name.contains("localhost"))
    });
    names.map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn target_rules_apply_behind_a_proxy_to_addresses_and_locally_known_names() {
    let receiver = TestReceiver::start().await;
    let proxy = ConnectProxy::start(ConnectBehaviour::TunnelTo(address_of(&receiver.url()))).await;
    let hub = behind(&format!("http://{}", proxy.address())).await;
    let refused = json!({"event_types": ["a"], "callback_url": receiver.url()});
    hub.post("/v1/subscriptions", &refused).await.expect_invalid("/callback_url");
    for name in names_here() {
        let url = format!("http://{name}/");
        let id = hub.subscribe(&json!({"event_types": ["a"], "callback_url": url})).await;
        let event = hub.publish("a", json!(1)).await;
        let attempt = wait_for_attempts(&hub, &id, &event, 1).await.remove(0);
        assert_eq!(string_at(&attempt, "/error"), "blocked", "{attempt}");
        hub.delete(&format!("/v1/subscriptions/{id}")).await;
    }
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn oauth_tokens_are_fetched_through_the_proxy() {
    // Receiver and token endpoint in one: the proxy connects every tunnel to it.
    let both = ScriptedServer::start(|request, _| {
        let body = if request.head.starts_with("POST /token ") {
            json!({"access_token": "t", "token_type": "bearer"}).to_string()
        } else {
            "{}".to_owned()
        };
        Reply::Json("200 OK", body)
    })
    .await;
    let proxy = ConnectProxy::start(ConnectBehaviour::TunnelTo(address_of(&both.url()))).await;
    let hub = behind(&format!("http://{}", proxy.address())).await;
    let definition = json!({
        "event_types": ["a"], "callback_url": "http://receiver.invalid/hooks",
        "auth": {
            "type": "oauth2_client_credentials", "token_url": "http://id.invalid:8080/token",
            "client_id": "hub", "client_secret": "s"
        }
    });
    let id = hub.subscribe(&definition).await;
    let event = hub.publish("a", json!(1)).await;
    wait_for_delivery(&hub, &id, &event, "delivered").await;
    let requests: Vec<_> = proxy
        .requests()
        .iter()
        .filter_map(|one| one.head.lines().next().map(str::to_owned))
        .collect();
    assert_eq!(
        requests,
        ["CONNECT id.invalid:8080 HTTP/1.1", "CONNECT receiver.invalid:80 HTTP/1.1"]
    );
    assert_eq!(both.requests()[1].header("authorization").as_deref(), Some("Bearer t"));
}

#[tokio::test]
async fn proxy_credentials_are_not_logged() {
    let mut receiver = TestReceiver::start().await;
    let proxy = ConnectProxy::start(ConnectBehaviour::TunnelTo(address_of(&receiver.url()))).await;
    let (data_dir, database) = (tempfile::tempdir().unwrap(), Database::create().await);
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", database.url())
        .with("HOOKHUB_LOG", "trace")
        .with("HOOKHUB_EGRESS_PROXY", &format!("http://user:planted-one@{}", proxy.address()));
    let hub = HubProcess::start(&environment).await;
    let definition = json!({
        "event_types": ["a"], "callback_url": "http://receiver.invalid/planted-path", "secret": SECRET,
        "auth": {"type": "basic", "username": "u", "password": "planted-two"}
    });
    let id = hub.client.subscribe(&definition).await;
    let event = hub.client.publish("a", json!(1)).await;
    receiver.next().await;
    wait_for_delivery(&hub.client, &id, &event, "delivered").await;
    let output = hub.program.output();
    // user:planted-one and u:planted-two
    for secret in ["planted-one", "planted-two", "dXNlcjpwbGFudGVkLW9uZQ", "dTpwbGFudGVkLXR3bw"] {
        let line = output.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret}: {line:?}");
    }
    assert!(output.contains("TRACE"), "{output}");
    hub.program.kill().await;
}
