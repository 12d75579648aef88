//! The series at `/metrics`, and their use in `ops/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hookhub::domain::time::UnixMillis;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::aging::age;
use crate::support::client::{Client, merged};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::waits::wait_for_deliveries;

/// The current values of all series.
#[derive(Debug)]
struct Metrics(String);

impl Metrics {
    async fn of(hub: &Client) -> Self {
        let response = hub.with_key(None).get("/metrics").await;
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(response.body.ends_with("# EOF\n"));
        Self(response.body)
    }

    fn get(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().expect(series))
    }

    #[track_caller]
    fn is(&self, series: &str, expected: f64) {
        let found = self.get(series);
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{series}: {found:?}");
    }

    fn names(&self) -> BTreeSet<String> {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        samples.map(name).collect()
    }
}

/// Waits until a series satisfies a condition, and returns the metrics.
async fn until(hub: &Client, series: &str, satisfies: impl Fn(f64) -> bool) -> Metrics {
    eventually(series, async || {
        let metrics = Metrics::of(hub).await;
        metrics.get(series).is_some_and(&satisfies).then_some(metrics)
    })
    .await
}

#[tokio::test]
async fn publishing_and_deliveries_are_counted_and_timed() {
    let hub = TestHub::start().await;
    let before = Metrics::of(&hub).await;
    before.is("hookhub_events_accepted_total", 0.0);
    before.is(r#"hookhub_attempts_total{outcome="5xx"}"#, 0.0);

    let mut good = TestReceiver::start().await;
    let mut bad = TestReceiver::responding(&[500, 200]).await;
    let once = json!({"max_in_flight": 1});
    let first = hub.subscribe(&merged(good.subscription_to("n"), once.clone())).await;
    let second = hub.subscribe(&merged(bad.subscription_to("n"), once)).await;
    let nobody = json!({"event_types": ["x"], "callback_url": "http://127.0.0.1:9009/", "retry_schedule_s": [1_000]});
    let third = hub.subscribe(&nobody).await;
    hub.publish_many("n", 10).await;
    hub.publish("x", json!(1)).await;
    hub.post_idempotent("/v1/events", "a-key", &json!({"type": "other", "data": 1}))
        .await
        .expect(202);
    hub.post_idempotent("/v1/events", "a-key", &json!({"type": "other", "data": 1}))
        .await
        .expect(202);
    good.take(10).await;
    bad.take(11).await;
    for id in [&first, &second] {
        wait_for_deliveries(&hub, id, "delivered", 10).await;
    }
    wait_for_deliveries(&hub, &third, "retrying", 1).await;

    // The hub measures queues at intervals.
    let metrics = eventually("the queues are measured", async || {
        let metrics = Metrics::of(&hub).await;
        let (retries, running) = ("hookhub_waiting_retries", "hookhub_deliveries_in_flight");
        let stand = [retries, running].map(|series| metrics.get(series));
        (stand == [Some(1.0), Some(0.0)]).then_some(metrics)
    })
    .await;
    metrics.is("hookhub_events_accepted_total", 12.0);
    metrics.is("hookhub_publish_duration_seconds_count", 3.0);
    metrics.is(r#"hookhub_publish_duration_seconds_bucket{le="+Inf"}"#, 3.0);
    metrics.is(r#"hookhub_publish_failures_total{reason="unavailable"}"#, 0.0);
    metrics.is(r#"hookhub_attempts_total{outcome="2xx"}"#, 20.0);
    metrics.is(r#"hookhub_attempts_total{outcome="5xx"}"#, 1.0);
    metrics.is(r#"hookhub_attempts_total{outcome="connect"}"#, 1.0);
    metrics.is("hookhub_attempt_duration_seconds_count", 22.0);
    metrics.is("hookhub_delivery_delay_seconds_count", 20.0);
    // One result records an attempt, and sets or ends a retry.
    let results = metrics.get("hookhub_flush_results_sum").unwrap();
    assert!((22.0..=25.0).contains(&results), "{results}");
    assert!(metrics.get("hookhub_flush_duration_seconds_sum").unwrap() > 0.0);
    metrics.is(r#"hookhub_subscriptions{state="current"}"#, 3.0);
    metrics.is("hookhub_shards_owned", 64.0);
    metrics.is("hookhub_lease_changes_total", 64.0);
    metrics.is("hookhub_database_connections_max", 8.0);
    assert!(metrics.get(r#"hookhub_database_connections{state="idle"}"#).unwrap() >= 1.0);
}

#[tokio::test]
async fn parked_subscriptions_are_counted_and_their_lag_grows() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("n")).await;
    let at_once =
        until(&hub, r#"hookhub_subscriptions{state="current"}"#, |count| count > 0.0).await;
    at_once.is(r#"hookhub_subscription_lag_seconds{state="current"}"#, 0.0);
    hub.post(&format!("/v1/subscriptions/{id}/pause"), &json!({})).await.expect(200);
    hub.publish_many("n", 20).await;
    let lag = r#"hookhub_subscription_lag_seconds{state="paused"}"#;
    let metrics = until(&hub, lag, |lag| lag > 1.5).await;
    metrics.is(r#"hookhub_subscriptions{state="paused"}"#, 1.0);
    metrics.is(r#"hookhub_subscriptions{state="current"}"#, 0.0);
    metrics.is("hookhub_oldest_pending_age_seconds", 0.0);
    metrics.is("hookhub_waiting_events", 20.0);
    hub.post(&format!("/v1/subscriptions/{id}/resume"), &json!({})).await.expect(200);
    wait_for_deliveries(&hub, &id, "delivered", 20).await;
    let metrics = until(&hub, "hookhub_waiting_events", |count| count < 1.0).await;
    metrics.is("hookhub_waiting_bytes", 0.0);
    let delays = metrics.get(r#"hookhub_delivery_delay_seconds_bucket{le="1.0"}"#).unwrap();
    assert!(delays < 1.0, "all were delivered late, not {delays}");
}

#[tokio::test]
async fn retained_and_expired_data_is_reported() {
    let hub = TestHub::start().await;
    hub.subscribe(&json!({"event_types": ["n"]})).await;
    hub.publish_many("n", 7).await;
    let database = hub.stop().await;
    age(&database, 40).await;
    let hub = TestHub::start_on(&database, |_| ()).await;
    let metrics = until(&hub, "hookhub_events_expired_total", |count| count > 0.0).await;
    metrics.is("hookhub_events_expired_total", 7.0);
    let now = || {
        std::time::Duration::from_millis(UnixMillis::now().as_i64().unsigned_abs()).as_secs_f64()
    };
    let rounds = "hookhub_retention_round_timestamp_seconds";
    let metrics = until(&hub, rounds, |at| at > 0.0).await;
    assert!(now() - metrics.get(rounds).unwrap() < 60.0);
    for of in ["events", "attempts", "all"] {
        let series = format!("hookhub_disk_bytes{{of=\"{of}\"}}");
        until(&hub, &series, |bytes| bytes > 8_192.0).await;
    }
}

/// All words of a text that are names of the hub's metrics.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_a_word(c)).filter(|word| word.starts_with("hookhub_"));
    words.map(ToOwned::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[tokio::test]
async fn dashboard_and_alerts_name_existing_metrics_and_the_docs_name_all_of_them() {
    let hub = TestHub::start().await;
    hub.publish("n", json!(1)).await;
    let database = hub.stop().await;
    // The table exists before the hub first measures its disk usage.
    let hub = TestHub::start_on(&database, |_| ()).await;
    until(&hub, "hookhub_oldest_event_timestamp_seconds", |at| at > 0.0).await;
    let metrics = until(&hub, "hookhub_retention_round_timestamp_seconds", |at| at > 0.0).await;
    let (known, docs) = (metrics.names(), read("docs/operations.md"));
    let families: BTreeSet<String> = metrics.0.lines().filter_map(family).collect();

    let dashboard: Value = serde_json::from_str(&read("ops/grafana-dashboard.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 20));
    for (file, text) in [
        ("ops/grafana-dashboard.json", dashboard.to_string()),
        ("ops/alerts.yml", read("ops/alerts.yml")),
    ] {
        let named = named_in(&text);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{file} names {unknown:?}");
    }
    let documented = named_in(&docs);
    let missing: Vec<_> = families.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
    let gone: Vec<_> = documented.difference(&families).collect();
    assert!(gone.is_empty(), "docs/operations.md names {gone:?}");
}

/// The documented name of a metric family: counters include the suffix of their samples.
fn family(line: &str) -> Option<String> {
    let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
    Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
}

#[tokio::test]
async fn metrics_need_no_key_and_accept_only_get() {
    let hub = TestHub::start().await;
    let response = hub.with_key(None).get("/metrics").await;
    let content_type = response.header("content-type").unwrap_or_default().to_owned();
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    hub.send(Method::POST, "/metrics", &json!({})).await.expect_problem(405, "method_not_allowed");
}
