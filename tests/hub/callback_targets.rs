//! Targets of callbacks: no spelling of an address, and no name, reaches a forbidden address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookhub::config::Settings;
use hookhub::domain::egress::policy::AllowedTargets;
use hookhub::domain::egress::target_list::{PortList, TargetList};
use serde_json::{Value, json};

use crate::support::client::string_at;
use crate::support::hub::{TestHub, every};
use crate::support::raw_http::{RawServer, read_webhook_id, respond};
use crate::support::receiver::{LONG_DELAY, TestReceiver};
use crate::support::waits::{wait_for_attempts, wait_for_delivery};

const PATH: &str = "/v1/subscriptions";

/// Spellings of forbidden addresses; `PORT` stands for the port of a server on this machine.
const REFUSED: &[&str] = &[
    // This machine.
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://127.255.255.254:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0X7F.1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://00000177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://127.0x0.00.1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://\u{ff11}\u{ff12}\u{ff17}.\u{ff10}.\u{ff10}.\u{ff11}:PORT/",
    "http://\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}:PORT/",
    "http://127\u{3002}0\u{3002}0\u{3002}1:PORT/",
    "http://127.0.0.\u{ad}1:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://a.b.localhost:PORT/",
    "http://\u{ff2c}\u{ff2f}\u{ff23}\u{ff21}\u{ff2c}\u{ff28}\u{ff2f}\u{ff33}\u{ff34}:PORT/",
    "http://0.0.0.0:PORT/",
    "http://0:PORT/",
    "http://0x0:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "http:\\\\127.0.0.1:PORT\\",
    "https://127.0.0.1:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b:1::127.0.0.1]:PORT/",
    "http://[2002:7f00:1::1]:PORT/",
    // Credentials, some of which make another host look like the target.
    "http://user:password@127.0.0.1:PORT/",
    "http://example.com@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "https://user@example.com/",
    // Private networks.
    "http://10.0.0.1/",
    "http://10.255.255.255/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://3232235521/",
    "http://0xc0.0xa8.0.1/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    "http://169.254.0.1/",
    "http://[fe80::1]/",
    "http://[febf::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fdff::1]/",
    // Metadata services that hand out credentials.
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://169.254.170.2/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://[::ffff:a83f:8110]/",
    // Unspecified, broadcast and multicast addresses.
    "http://0.1.2.3/",
    "http://192.0.2.1/",
    "http://198.51.100.7/",
    "http://203.0.113.9/",
    "http://198.18.0.1/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[2001:2::1]/",
    "http://[2001:20::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2002:808:808::1]/",
    "http://[2606:4700::5efe:10.0.0.1]/",
    "http://[100::1]/",
    "http://[5f00::1]/",
    "http://[4000::1]/",
    // Other protocols and ports.
    "http://example.com:0/",
    "http://example.com:22/",
    "http://example.com:25/",
    "https://example.com:6667/",
    "ftp://example.com/",
    "gopher://127.0.0.1:PORT/",
    "file:///etc/passwd",
    "unix:/run/docker.sock",
    "http+unix://%2frun%2fdocker.sock/",
    "javascript:alert(1)",
    "//127.0.0.1:PORT/",
    "http://[::1/",
    "http://127.0.0.1\t:PORT/",
];

/// Neighbours of the forbidden addresses, and addresses that merely look like them.
const ACCEPTED: &[&str] = &[
    "https://example.com/",
    "http://example.com:8080/hooks?a=b",
    "https://EXAMPLE.com./",
    "https://b\u{fc}cher.example/",
    "https://localhost.example.com/",
    "https://notlocalhost/",
    "https://127.0.0.1.example.com/",
    "http://1.1.1.1/",
    "http://16843009/",
    "http://9.255.255.255/",
    "http://11.0.0.1/",
    "http://100.63.255.255/",
    "http://100.128.0.1/",
    "http://126.255.255.255/",
    "http://128.0.0.1/",
    "http://168.63.129.17/",
    "http://169.253.255.255/",
    "http://169.255.0.1/",
    "http://172.15.255.255/",
    "http://172.32.0.1/",
    "http://192.0.1.1/",
    "http://192.167.255.255/",
    "http://192.169.0.1/",
    "http://198.17.255.255/",
    "http://198.20.0.1/",
    "http://223.255.255.255/",
    "http://[2606:4700::1111]/",
    "http://[2001:200::1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[64:ff9b::808:808]/",
    "http://1.1.1.1:8443/",
    "http://1.1.1.1:6379/",
];

/// Names that resolve to this machine or a private network, as far as they are known here.
const NAMES: &[&str] = &[
    "ip6-localhost",
    "ip6-loopback",
    "localhost.localdomain",
    "metadata.google.internal",
    "127.0.0.1.nip.io",
    "localtest.me",
];

/// A server on this machine that counts connections.
struct CountingReceiver {
    server: RawServer,
    connections: Arc<AtomicUsize>,
}

impl CountingReceiver {
    async fn start() -> Self {
        let connections: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&connections);
        let server = RawServer::start(move |mut stream| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                while read_webhook_id(&mut stream).await.is_some() {
                    respond(&mut stream, "204 No Content").await;
                }
            }
        });
        Self { server: server.await, connections }
    }

    fn at(&self, target: &str) -> String {
        target.replace("PORT", &self.server.address.port().to_string())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn subscription_to(url: &str) -> Value {
    json!({"event_types": ["a"], "callback_url": url, "timeout_s": 5})
}

/// A hub with the default target rules, which makes one attempt.
async fn strict(adapt: impl FnOnce(&mut Settings)) -> TestHub {
    TestHub::start_with(|settings| {
        settings.egress.targets.allow = AllowedTargets::default();
        settings.retry_schedule = every(LONG_DELAY);
        adapt(settings);
    })
    .await
}

/// The detail of the refusal of a callback URL.
async fn refusal(hub: &TestHub, url: &str) -> String {
    let response = hub.post(PATH, &subscription_to(url)).await;
    response.expect_invalid("/callback_url");
    string_at(&response.expect_problem(422, "validation_failed"), "/errors/0/detail")
}

/// The error class and detail of the first attempt of an event.
async fn failure(hub: &TestHub, subscription: &str, event: &str) -> (String, String) {
    let attempt = wait_for_attempts(hub, subscription, event, 1).await.remove(0);
    assert_eq!(attempt.pointer("/status_code"), Some(&Value::Null), "{attempt}");
    (string_at(&attempt, "/error"), string_at(&attempt, "/error_detail"))
}

#[tokio::test]
async fn no_spelling_of_a_forbidden_address_is_accepted_as_a_callback() {
    let (hub, receiver) = (strict(|_| ()).await, CountingReceiver::start().await);
    assert!(REFUSED.len() >= 60);
    for target in REFUSED {
        let url = receiver.at(target);
        let response = hub.post(PATH, &subscription_to(&url)).await;
        assert_eq!(response.status, 422, "{url}: {}", response.body);
        response.expect_invalid("/callback_url");
    }
    for url in ACCEPTED {
        let response = hub.post(PATH, &subscription_to(url)).await;
        assert_eq!(response.status, 201, "{url}: {}", response.body);
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn no_name_reaches_a_forbidden_address_and_every_spelling_of_an_allowed_one_works() {
    let (hub, receiver) = (strict(|_| ()).await, CountingReceiver::start().await);
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let here = hosts.lines().flat_map(|line| line.split_whitespace().skip(1));
    let closed = |name: &&str| !name.starts_with('#') && name.parse::<IpAddr>().is_err();
    let mut subscriptions = Vec::new();
    for name in NAMES.iter().copied().chain(here.filter(closed)) {
        let response =
            hub.post(PATH, &subscription_to(&receiver.at(&format!("http://{name}:PORT/")))).await;
        if response.status == 201 {
            subscriptions.push(string_at(&response.expect(201), "/id"));
        } else {
            response.expect_invalid("/callback_url");
        }
    }
    let event = hub.publish("a", json!(1)).await;
    for subscription in subscriptions {
        let (class, detail) = failure(&hub, &subscription, &event).await;
        let names_rule = class == "blocked" && detail.contains("HOOKHUB_ALLOW_TARGETS");
        assert!(names_rule || class == "dns" || class == "timeout", "{class}: {detail}");
    }
    assert_eq!(receiver.connections(), 0);

    let open = TestHub::start().await;
    for target in
        ["http://0x7f.1:PORT/", "http://LOCALHOST:PORT/", "http://[::ffff:127.0.0.1]:PORT/"]
    {
        let before = receiver.connections();
        let subscription = open.subscribe(&subscription_to(&receiver.at(target))).await;
        let event = open.publish("a", json!(1)).await;
        wait_for_delivery(&open, &subscription, &event, "delivered").await;
        assert!(receiver.connections() > before, "{target}");
        open.delete(&format!("{PATH}/{subscription}")).await;
    }
}

#[tokio::test]
async fn a_refused_target_names_the_rule_and_the_setting_that_allows_it() {
    let hub = strict(|settings| {
        let targets = &mut settings.egress.targets;
        targets.deny = Some(TargetList::parse("*.closed.example,8.8.8.0/24").unwrap());
    })
    .await;
    for (url, rule, setting) in [
        ("http://10.0.0.1/", "10.0.0.1 is a private address", "HOOKHUB_ALLOW_TARGETS"),
        ("http://0x7f.1/", "127.0.0.1 is a loopback address", "HOOKHUB_ALLOW_TARGETS"),
        ("http://168.63.129.16/", "metadata service", "HOOKHUB_ALLOW_TARGETS"),
        ("http://example.com:22/", "port 22", "HOOKHUB_ALLOW_PORTS"),
        ("https://a.closed.example/", "a.closed.example", "HOOKHUB_DENY_TARGETS"),
        ("https://8.8.8.8/", "8.8.8.8", "HOOKHUB_DENY_TARGETS"),
    ] {
        let refusal = refusal(&hub, url).await;
        assert!(refusal.contains(rule) && refusal.contains(setting), "{url}: {refusal}");
    }

    let kept_to = strict(|settings| {
        let targets = &mut settings.egress.targets;
        targets.only = Some(TargetList::parse("*.open.example").unwrap());
        targets.only_ports = Some(PortList::parse("443").unwrap());
        targets.https_only = true;
    })
    .await;
    kept_to.subscribe(&subscription_to("https://a.open.example/")).await;
    for (url, setting) in [
        ("https://example.com/", "HOOKHUB_ONLY_TARGETS"),
        ("https://1.1.1.1/", "HOOKHUB_ONLY_TARGETS"),
        ("https://a.open.example:8443/", "HOOKHUB_ONLY_PORTS"),
        ("http://a.open.example/", "HOOKHUB_HTTPS_ONLY"),
    ] {
        let refusal = refusal(&kept_to, url).await;
        assert!(refusal.contains(setting), "{url}: {refusal}");
    }
}

/// A change of the target rules.
type Rule = fn(&mut Settings);

#[tokio::test]
async fn new_target_rules_apply_to_existing_subscriptions() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let subscription = hub.subscribe(&receiver.subscription_to("a")).await;
    let mut database = hub.stop().await;
    let rules: [(Rule, &str); 4] = [
        (|settings| settings.egress.targets.https_only = true, "HOOKHUB_HTTPS_ONLY"),
        (
            |settings| {
                settings.egress.targets.deny = TargetList::parse("127.0.0.0/8").ok();
            },
            "HOOKHUB_DENY_TARGETS",
        ),
        (
            |settings| settings.egress.targets.only = TargetList::parse("a.example").ok(),
            "HOOKHUB_ONLY_TARGETS",
        ),
        (
            |settings| settings.egress.targets.only_ports = PortList::parse("443").ok(),
            "HOOKHUB_ONLY_PORTS",
        ),
    ];
    for (rule, setting) in rules {
        let hub = TestHub::start_on(&database, |settings| {
            settings.retry_schedule = every(LONG_DELAY);
            rule(settings);
        })
        .await;
        let event = hub.publish("a", json!(1)).await;
        let (class, detail) = failure(&hub, &subscription, &event).await;
        assert_eq!(class, "blocked", "{detail}");
        assert!(detail.contains(setting), "{detail}");
        database = hub.stop().await;
    }
    assert!(receiver.drain().is_empty());
}
