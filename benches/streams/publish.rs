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
pub(super) struct Pace {
    pub(super) events: usize,
    /// Interval between two events.
    pub(super) every: Duration,
    /// Bytes of data per event.
    pub(super) bytes: usize,
}

/// Publishes the events; returns the latencies of the responses.
pub(super) async fn run(hub: SocketAddr, pace: Pace) -> Result<Spread, BoxError> {
    let client = reqwest::Client::new_with_key()?;
    let mut ticks = interval(pace.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut publishing = JoinSet::new();
    for number in 0..pace.events {
        ticks.tick().await;
        let client = client.clone();
        publishing.spawn(async move {
            let began = Instant::now();
            let answer = client
                .post(format!("http://{hub}/v1/events"))
                .header("content-type", "application/json")
                .body(event(number, pace.bytes))
                .send()
                .await?
                .error_for_status()?;
            answer.bytes().await?;
            Ok::<_, reqwest::Error>(began.elapsed())
        });
    }
    let mut latencies = Latencies::default();
    for answered in publishing.join_all().await {
        latencies.note(u64::try_from(answered?.as_micros())?);
    }
    Ok(latencies.into_spread())
}

/// An event of this size whose data ends with its number and the time: see [`super::wire::Tags`].
fn event(number: usize, bytes: usize) -> String {
    let data = |pad: &str| format!(r#"{{"pad":"{pad}","tag":"~{number}:{}~"}}"#, now_us());
    let pad = "x".repeat(bytes.saturating_sub(data("").len()));
    format!(r#"{{"type":"bench.streams","data":{}}}"#, data(&pad))
}
