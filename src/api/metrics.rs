//! `/metrics`: counts for Prometheus, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use actix_web::{HttpResponse, web};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Api;
use super::problem::{Code, Problem};
use crate::stream::presence::{Presence, Transport};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    transport: &'static str,
}

/// `GET /metrics`.
pub(super) async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let mut registry = Registry::with_prefix("hookhub");
    connections(&mut registry, api.streams.presence());
    let mut body = String::new();
    text::encode(&mut body, &registry)
        .map_err(|error| Problem::new(Code::Internal, format!("metrics: {error}")))?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(body))
}

fn connections(registry: &mut Registry, presence: &Presence) {
    let (open, sent) = (Family::<By, Gauge>::default(), Family::<By, Counter>::default());
    for transport in Transport::ALL {
        let by = By { transport: transport.name() };
        open.get_or_create(&by).set(i64::try_from(presence.count(transport)).unwrap_or(i64::MAX));
        sent.get_or_create(&by).inc_by(presence.sent(transport));
    }
    let refused: Counter<u64, AtomicU64> = Counter::default();
    refused.inc_by(presence.refused());
    registry.register("connections", "Streams and waiting polls that are open on this node", open);
    registry.register("events_sent", "Events sent to streams and waiting polls", sent);
    registry.register(
        "connections_refused",
        "Streams and waiting polls that were refused because as many were open as may be",
        refused,
    );
}
