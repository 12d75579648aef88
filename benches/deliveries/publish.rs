//! The publishers, in their own process: as fast as the responses allow, or at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::BoxError;
use super::client::WithKey as _;
use super::clock::now_us;

/// The published load.
#[derive(Debug, Clone, Args)]
pub(super) struct Load {
    /// Event type
    #[arg(long, hide = true, default_value = "bench.nobody")]
    pub(super) event_type: String,
    /// Number that the data of the first event holds
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) first: usize,
    /// Number of events
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) events: usize,
    /// Events per request
    #[arg(long, hide = true, default_value_t = 1)]
    pub(super) batch: usize,
    /// Concurrent requests
    #[arg(long, hide = true, default_value_t = 1)]
    pub(super) concurrency: usize,
    /// Requests per second; 0: each connection sends its next request as soon as it has a response
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) rate: usize,
    /// Bytes of data per event
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) size: usize,
}

/// The result: the process fails unless every event is acknowledged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Published {
    /// Start, by the shared clock.
    pub(super) started_us: u64,
    pub(super) duration: Duration,
    /// Latency of each response.
    pub(super) response_times_us: Vec<u32>,
}

/// Publishes the load and prints the result.
pub(super) async fn run(port: u16, load: &Load) -> Result<(), BoxError> {
    let to = Publisher {
        client: reqwest::Client::new_with_key()?,
        url: format!("http://127.0.0.1:{port}/v1/events"),
        load: load.clone(),
    };
    let (started_us, started) = (now_us(), Instant::now());
    let response_times_us = match load.rate {
        0 => flood(to).await?,
        rate => at_steady_rate(to, u32::try_from(rate)?).await?,
    };
    let published = Published { started_us, duration: started.elapsed(), response_times_us };
    println!("{}", serde_json::to_string(&published)?);
    Ok(())
}

#[derive(Clone)]
struct Publisher {
    client: reqwest::Client,
    url: String,
    load: Load,
}

/// Each connection sends its next request as soon as it has a response.
async fn flood(publisher: Publisher) -> Result<Vec<u32>, BoxError> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..publisher.load.concurrency {
        let (publisher, next) = (publisher.clone(), Arc::clone(&next));
        connections.spawn(async move {
            let mut response_times_us = Vec::new();
            loop {
                let offset = next.fetch_add(publisher.load.batch, Ordering::Relaxed);
                if offset >= publisher.load.events {
                    return Ok::<_, BoxError>(response_times_us);
                }
                response_times_us.push(publisher.publish(offset).await?);
            }
        });
    }
    let answered: Result<Vec<_>, _> = connections.join_all().await.into_iter().collect();
    Ok(answered?.concat())
}

/// Sends `pace` requests per second, however long the responses take.
async fn at_steady_rate(publisher: Publisher, rate: u32) -> Result<Vec<u32>, BoxError> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut publishing = JoinSet::new();
    for offset in (0..publisher.load.events).step_by(publisher.load.batch) {
        ticks.tick().await;
        let publisher = publisher.clone();
        publishing.spawn(async move { publisher.publish(offset).await });
    }
    publishing.join_all().await.into_iter().collect()
}

impl Publisher {
    /// POSTs the events from `offset`; returns the latency in microseconds.
    async fn publish(&self, offset: usize) -> Result<u32, BoxError> {
        let end = self.load.events.min(offset + self.load.batch);
        let events: Vec<_> = (offset..end).map(|offset| self.event(offset)).collect();
        let body =
            if self.load.batch == 1 { events.concat() } else { format!("[{}]", events.join(",")) };
        let started = Instant::now();
        let request = self.client.post(&self.url).header("content-type", "application/json");
        request.body(body).send().await?.error_for_status()?.bytes().await?;
        Ok(u32::try_from(started.elapsed().as_micros())?)
    }

    /// An event of the given size whose data holds its number and the time of publishing.
    fn event(&self, offset: usize) -> String {
        let Load { event_type, first, size, .. } = &self.load;
        let (number, now) = (first + offset, now_us());
        let data = |pad: &str| format!(r#"{{"n":{number},"at":{now},"pad":"{pad}"}}"#);
        let pad = "x".repeat(size.saturating_sub(data("").len()));
        format!(r#"{{"type":"{event_type}","data":{}}}"#, data(&pad))
    }
}
