//! The publishers: each takes the next number, publishes it, and notes when it is acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Flood;
use super::client::WithKey;

/// Which events were answered 202.
pub(super) struct Acknowledged {
    events: Vec<AtomicBool>,
    count: watch::Sender<usize>,
}

impl Acknowledged {
    /// None of so many.
    pub(super) fn new(events: usize) -> Self {
        Self {
            events: (0..events).map(|_| AtomicBool::new(false)).collect(),
            count: watch::Sender::new(0),
        }
    }

    fn note(&self, number: usize) {
        if let Some(event) = self.events.get(number) {
            event.store(true, Ordering::Relaxed);
            self.count.send_modify(|count| *count += 1);
        }
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until there are so many.
    pub(super) async fn wait_for(&self, wanted: usize) {
        drop(self.count.subscribe().wait_for(|count| *count >= wanted).await);
    }

    /// How many deliveries of acknowledged events are missing, given how often each event came to each subscription.
    pub(super) fn lost(&self, counts: &[Vec<u8>]) -> usize {
        let missing = |row: &Vec<u8>| {
            let pairs = self.events.iter().zip(row);
            pairs.filter(|(event, count)| event.load(Ordering::Relaxed) && **count == 0).count()
        };
        counts.iter().map(missing).sum()
    }
}

/// Publishes all events. One that is not acknowledged is not sent again: it may or may not arrive.
pub(super) async fn run(flood: &Flood, address: SocketAddr, acknowledged: Arc<Acknowledged>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for _ in 0..flood.publishers {
        let (next, acknowledged, flood) =
            (Arc::clone(&next), Arc::clone(&acknowledged), flood.clone());
        publishers.spawn(async move {
            let Ok(client) = reqwest::Client::new_with_key() else { return };
            let padding = "x".repeat(flood.bytes.saturating_sub(24));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= flood.events {
                    return;
                }
                let body = format!(
                    r#"{{"type":"bench.flood","data":{{"n":{number},"pad":"{padding}"}}}}"#
                );
                let request = client.post(format!("http://{address}/v1/events"));
                match request.header("content-type", "application/json").body(body).send().await {
                    Ok(answer) if answer.status() == 202 => acknowledged.note(number),
                    // The hub is away: let it come back rather than use all numbers up.
                    _ => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        });
    }
    publishers.join_all().await;
}
