//! A hub with an embedded Postgres, and the cost of a load on it.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::BoxError;
use super::client::WithKey as _;
use super::floor::Bare;
use super::hub::Hub;
use super::processes::{Cpu, resident_kib};
use super::publish::{Load, Published};
use super::self_exec::SelfExec;
use super::sink::Sink;
use super::tally::Arrived;
use super::wal::Wal;

/// Time for the hub to record the last results, once all deliveries have arrived.
const FLUSH_TIME: Duration = Duration::from_millis(200);

/// A running hub with its own Postgres.
pub(super) struct TestHub {
    hub: Hub,
    wal: Wal,
    client: reqwest::Client,
    _directory: TempDir,
}

/// The result of a load: what was published, what arrived, and what it cost.
pub(super) struct LoadResult {
    pub(super) cpu: Cpu,
    pub(super) wal_bytes: f64,
    pub(super) published: Published,
    pub(super) arrived: Arrived,
}

impl TestHub {
    /// Starts the hub.
    pub(super) async fn start() -> Result<Self, BoxError> {
        let directory = tempfile::Builder::new().prefix("hookhub-bench-").tempdir_in("/tmp")?;
        let hub = Hub::start(directory.path()).await?;
        let wal = Wal::of(directory.path()).await?;
        let client = reqwest::Client::new_with_key()?;
        Ok(Self { hub, wal, client, _directory: directory })
    }

    /// Subscribes a callback to a pattern; returns the subscription's URL.
    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        callback: &str,
    ) -> Result<String, BoxError> {
        let subscriptions = format!("http://{}/v1/subscriptions", self.hub.address());
        let body = json!({ "event_types": [pattern], "callback_url": callback }).to_string();
        let request = self.client.post(&subscriptions).header("content-type", "application/json");
        let response = request.body(body).send().await?.error_for_status()?.text().await?;
        let created: Value = serde_json::from_str(&response)?;
        let id = created["id"].as_str().ok_or("a subscription without an id")?;
        Ok(format!("{subscriptions}/{id}"))
    }

    pub(super) async fn delete(&self, subscription: &str) -> Result<(), BoxError> {
        self.client.delete(subscription).send().await?.error_for_status()?;
        Ok(())
    }

    pub(super) async fn pause(&self, subscription: &str) -> Result<(), BoxError> {
        self.client.post(format!("{subscription}/pause")).send().await?.error_for_status()?;
        Ok(())
    }

    /// Publishes a load for `fan_out` healthy receivers, and waits until all deliveries have arrived.
    pub(super) async fn run(
        &mut self,
        sink: &mut Sink,
        load: Load,
        fan_out: usize,
    ) -> Result<LoadResult, BoxError> {
        let load = Load { first: sink.reserve_numbers(load.events), ..load };
        let (wal_bytes, cpu) = (self.wal.written().await?, self.hub.cpu()?);
        let published = publish(self.hub.address().port(), &load)?;
        let arrived = sink.wait_for_deliveries(load.events * fan_out).await?;
        tokio::time::sleep(FLUSH_TIME).await;
        let cpu = self.hub.cpu()? - cpu;
        let wal_bytes = self.wal.written().await? - wal_bytes;
        Ok(LoadResult { cpu, wal_bytes, published, arrived })
    }

    /// Memory of the hub in MiB.
    pub(super) fn resident_mib(&self) -> Result<f64, BoxError> {
        Ok(resident_kib(self.hub.pid()?)? / 1_024.0)
    }

    /// Stops the hub.
    pub(super) async fn stop(self) -> Result<(), BoxError> {
        self.hub.stop().await
    }
}

impl LoadResult {
    /// Deliveries per second, from the first publish to the last arrival.
    pub(super) fn per_second(&self) -> f64 {
        let took_us = self.arrived.last_us.saturating_sub(self.published.started_us);
        per_second(self.arrived.delays_us.len(), Duration::from_micros(took_us))
    }
}

impl Published {
    /// Responses per second.
    pub(super) fn per_second(&self) -> f64 {
        per_second(self.response_times_us.len(), self.duration)
    }
}

fn per_second(count: usize, duration: Duration) -> f64 {
    super::to_f64(count) / duration.as_secs_f64()
}

/// Publishes a load to the server at this port.
pub(super) fn publish(port: u16, load: &Load) -> Result<Published, BoxError> {
    Ok(serde_json::from_str(&run_role("publish", port, load)?)?)
}

/// POSTs as many bodies as the load has events, by the bare loop.
pub(super) fn post_bare(port: u16, load: &Load) -> Result<Bare, BoxError> {
    Ok(serde_json::from_str(&run_role("floor", port, load)?)?)
}

/// Runs a child process and returns its result.
fn run_role(role: &str, port: u16, load: &Load) -> Result<String, BoxError> {
    let options: [(&str, &dyn Display); 8] = [
        ("--port", &port),
        ("--event-type", &load.event_type),
        ("--first", &load.first),
        ("--events", &load.events),
        ("--batch", &load.batch),
        ("--concurrency", &load.concurrency),
        ("--rate", &load.rate),
        ("--size", &load.size),
    ];
    SelfExec::start(role, &options)?.next_line()
}
