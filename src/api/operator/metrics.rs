//! The metrics of this node in the OpenMetrics text format. Each function below adds those of one part of the hub.

use std::fmt;

use actix_web::{HttpResponse, web};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use strum::VariantArray;

use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::time::UnixMillis;
use crate::metrics::{DeliveryMetrics, Histogram, PublishMetrics, StorageMetrics};
use crate::store::disk_usage::PoolUsage;
use crate::streaming::presence::Presence;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`. Each request builds a registry from the current values.
pub(super) async fn metrics(api: web::Data<Api>) -> ApiResult {
    let metrics = &api.metrics;
    let (mut page, now) = (Page(Registry::with_prefix("hookhub")), UnixMillis::now());
    page.gauges("build_info", "The version that runs", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
    publish(&mut page, &metrics.publish);
    attempts(&mut page, &metrics.delivery);
    queues(&mut page, &metrics.delivery, now);
    connections(&mut page, &api.streams.presence);
    let refused = each_named(|quota| api.quotas.rejections(quota));
    page.counts("quota_refusals", "Requests refused by a quota of their tenant", "quota", refused);
    storage(&mut page, &metrics.storage);
    pool(&mut page, api.store.pool_usage());
    let mut body = String::new();
    text::encode(&mut body, &page.0)
        .map_err(|error| Problem::new(Code::Internal, format!("metrics: {error}")))?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(body))
}

fn publish(page: &mut Page, publish: &PublishMetrics) {
    page.count("events_accepted", "Events made durable by this node", publish.accepted.get());
    let failures = [
        ("unavailable", publish.unavailable.get()),
        ("unknown", publish.unknown.get()),
        ("refused", publish.refused.get()),
    ];
    page.counts(
        "publish_failures",
        "Requests whose events were not stored, or may not be (reason unknown)",
        "reason",
        failures,
    );
    page.histogram(
        "publish_duration_seconds",
        "From taking a request up until its events are durable",
        &publish.duration,
    );
}

/// Adds the metrics of delivery attempts, of the commits that record their results, and of shard leases.
fn attempts(page: &mut Page, delivery: &DeliveryMetrics) {
    let attempts = delivery.attempts();
    page.counts("attempts", "POSTs to callbacks, by outcome", "outcome", attempts);
    let exhausted = delivery.exhausted.get();
    page.count("deliveries_exhausted", "Deliveries whose last attempt failed", exhausted);
    for (name, help, histogram) in [
        ("attempt_duration_seconds", "From the start of a POST to its end", &delivery.duration),
        (
            "delivery_delay_seconds",
            "From the acceptance of an event until a subscription has it",
            &delivery.delay,
        ),
        ("flush_duration_seconds", "How long it takes to record results", &delivery.flush_duration),
        ("flush_results", "Results recorded in one commit", &delivery.flush_results),
    ] {
        page.histogram(name, help, histogram);
    }
    page.gauge("shards_owned", "Shards this node delivers for", number(delivery.shards()));
    let changes = delivery.lease_changes.get();
    page.count("lease_changes", "Shards that this node acquired or released", changes);
}

/// Adds the metrics of this node's delivery queues, and how far subscriptions lag at `now`.
fn queues(page: &mut Page, delivery: &DeliveryMetrics, now: UnixMillis) {
    let queues = delivery.queues().clone();
    for (name, help, value) in [
        ("deliveries_in_flight", "POSTs that run", queues.in_flight),
        ("results_unrecorded", "Results that wait to be recorded", queues.unrecorded),
        ("waiting_events", "Events in memory before their first POST", queues.waiting_events),
        ("waiting_bytes", "Bytes of those", queues.waiting_bytes),
        ("waiting_retries", "Deliveries that wait for another POST", queues.waiting_retries),
    ] {
        page.gauge(name, help, number(value));
    }
    let counts = each_named(|state| number(queues.totals(state).subscriptions));
    page.gauges("subscriptions", "Subscriptions with a callback on this node", "state", counts);
    let age = |since: Option<UnixMillis>| since.map_or(0.0, |since| now.since(since).as_secs_f64());
    let lags = each_named(|state| age(queues.totals(state).oldest));
    page.seconds_by(
        "subscription_lag_seconds",
        "Age of the oldest place in the log that one of them has not passed",
        "state",
        lags,
    );
    page.seconds(
        "oldest_pending_age_seconds",
        "Age of the oldest event in the queues of active subscriptions",
        age(queues.oldest_pending),
    );
}

fn connections(page: &mut Page, presence: &Presence) {
    let open = each_named(|transport| number(presence.count_of_transport(transport)));
    page.gauges(
        "connections",
        "Streams and waiting polls that are open on this node",
        "transport",
        open,
    );
    let sent = each_named(|transport| presence.events_sent(transport));
    page.counts("events_sent", "Events sent to streams and waiting polls", "transport", sent);
    page.count(
        "connections_refused",
        "Streams and waiting polls refused by a connection limit",
        presence.connections_refused(),
    );
}

/// Adds the metrics of retention, encryption and disk usage. Values that are not measured yet are left out.
fn storage(page: &mut Page, storage: &StorageMetrics) {
    let expired = storage.expired.get();
    page.count(
        "events_expired",
        "Events that expired before a subscription received them",
        expired,
    );
    if let Some(round) = storage.last_retention() {
        page.seconds(
            "retention_round_timestamp_seconds",
            "When the last round of retention ended",
            since_1970(round),
        );
    }
    let encrypted_with_old_key = *storage.encrypted_with_old_key();
    if let Some(count) = encrypted_with_old_key {
        page.gauge(
            "sealed_with_other_keys",
            "Secrets in the database that are not encrypted with this node's current master key",
            count,
        );
    }
    let Some(tables) = *storage.disk_usage() else { return };
    let disk = [
        ("events", tables.events_bytes),
        ("attempts", tables.attempts_bytes),
        ("all", tables.database_bytes),
    ];
    page.gauges("disk_bytes", "Bytes in the database, indexes included", "of", disk);
    if let Some(oldest) = tables.oldest {
        page.seconds(
            "oldest_event_timestamp_seconds",
            "When the oldest retained event was accepted",
            since_1970(oldest.time()),
        );
    }
}

fn pool(page: &mut Page, pool: PoolUsage) {
    let connections = [("busy", pool.busy.into()), ("idle", pool.idle.into())];
    page.gauges("database_connections", "Connections of the pool", "state", connections);
    page.gauge("database_connections_max", "The size limit of the pool", pool.max.into());
}

/// Returns the seconds from the Unix epoch to `time`.
fn since_1970(time: UnixMillis) -> f64 {
    time.since(UnixMillis::EPOCH).as_secs_f64()
}

/// Converts a count to `i64`; a greater number becomes `i64::MAX`.
fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// Returns the name of each variant of `T`, which is a label value, with its `value`.
fn each_named<T, V>(value: impl Fn(T) -> V) -> Vec<(&'static str, V)>
where
    T: VariantArray + Copy + Into<&'static str>,
{
    T::VARIANTS.iter().map(|variant| ((*variant).into(), value(*variant))).collect()
}

/// The values of one label.
type Label = [(&'static str, &'static str); 1];

struct Page(Registry);

impl Page {
    fn count(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    /// Adds a counter with the label `label`. Each pair in `values` is a label value and its count.
    fn counts(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family = Family::<Label, Counter>::default();
        for (of, value) in values {
            family.get_or_create(&[(label, of)]).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    /// Adds a gauge with the label `label`. Each pair in `values` is a label value and its number.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, i64)>,
    ) {
        let family = Family::<Label, Gauge>::default();
        for (of, value) in values {
            family.get_or_create(&[(label, of)]).set(value);
        }
        self.0.register(name, help, family);
    }

    /// Each pair in `values` is a value of `label` and its number of seconds.
    fn seconds_by(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, f64)>,
    ) {
        let family = Family::<Label, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        for (of, value) in values {
            family.get_or_create(&[(label, of)]).set(value);
        }
        self.0.register(name, help, family);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let shown = HistogramSnapshot { buckets: histogram.buckets(), sum: histogram.sum() };
        self.0.register(name, help, shown);
    }
}

#[derive(Debug)]
struct HistogramSnapshot {
    /// The upper bound of each bucket, and the number of values in it.
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

impl EncodeMetric for HistogramSnapshot {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum, count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
