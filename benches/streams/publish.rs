//! The publisher: one event after the other at a steady rate, however long the responses take.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::BoxError;
use super::client::WithKey as _;
use super::clock::now_us;
use super::latencies::{Latencies, Spread};

/// The published load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) events: usize,
    /// Interval between two events.
    pub(super) interval: Duration,
    /// Bytes of data per event.
    pub(super) bytes: usize,
}

/// Publishes the events; returns the latencies of the responses.
pub(super) async fn run(hub: SocketAddr, load: Load) -> Result<Spread, BoxError> {
    let client = reqwest::Client::new_with_key()?;
    let mut ticks = interval(load.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut publishing = JoinSet::new();
    for number in 0..load.events {
        ticks.tick().await;
        let client = client.clone();
        publishing.spawn(async move {
            let started = Instant::now();
            let response = client
                .post(format!("http://{hub}/v1/events"))
                .header("content-type", "application/json")
                .body(event(number, load.bytes))
                .send()
                .await?
                .error_for_status()?;
            response.bytes().await?;
            Ok::<_, reqwest::Error>(started.elapsed())
        });
    }
    let mut latencies = Latencies::default();
    for response_time in publishing.join_all().await {
        latencies.record(u64::try_from(response_time?.as_micros())?);
    }
    Ok(latencies.into_spread())
}

/// An event of this size whose data ends with its number and the time: see [`super::wire::Tags`].
fn event(number: usize, bytes: usize) -> String {
    let data = |pad: &str| format!(r#"{{"pad":"{pad}","tag":"~{number}:{}~"}}"#, now_us());
    let pad = "x".repeat(bytes.saturating_sub(data("").len()));
    format!(r#"{{"type":"bench.streams","data":{}}}"#, data(&pad))
}
