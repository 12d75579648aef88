//! A well-behaved receiver: the hub's own development receiver, and its deliveries.

use std::time::Duration;

use hookhub::tools::receive::{Delivery, Receiver, ReceiverSettings, SignatureCheck};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::in_time;

/// The signing secret of deliveries to these receivers.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A receiver that checks each signature, responds with the chosen statuses, and passes the deliveries to the test.
#[derive(Debug)]
pub(crate) struct TestReceiver {
    receiver: Receiver,
    deliveries: mpsc::Receiver<Delivery>,
}

impl TestReceiver {
    /// Starts a receiver that responds 200.
    pub(crate) async fn start() -> Self {
        Self::responding(&[200]).await
    }

    /// Starts a receiver that responds with these statuses in turn; the last one repeats.
    pub(crate) async fn responding(statuses: &[u16]) -> Self {
        Self::with(ReceiverSettings { answers: statuses.to_vec(), ..Self::settings() }).await
    }

    pub(crate) async fn with(settings: ReceiverSettings) -> Self {
        let (receiver, deliveries) = Receiver::start(settings).await.expect("the receiver starts");
        Self { receiver, deliveries }
    }

    pub(crate) fn settings() -> ReceiverSettings {
        ReceiverSettings {
            secrets: vec![SECRET.parse().expect("a secret")],
            ..ReceiverSettings::default()
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.receiver.address())
    }

    /// The definition of a subscription to a pattern, with this receiver as its callback.
    pub(crate) fn subscription_to(&self, pattern: &str) -> Value {
        json!({"event_types": [pattern], "callback_url": self.url(), "secret": SECRET})
    }

    /// The next delivery, without a check of its signature.
    pub(crate) async fn next_unverified(&mut self) -> Delivery {
        in_time("a delivery arrives", self.deliveries.recv()).await.expect("the receiver runs")
    }

    /// The next delivery, with a valid signature.
    pub(crate) async fn next(&mut self) -> Delivery {
        let delivery = self.next_unverified().await;
        assert_eq!(delivery.verified, SignatureCheck::Valid, "{delivery}");
        delivery
    }

    /// The next `count` deliveries.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(count);
        while deliveries.len() < count {
            deliveries.push(self.next().await);
        }
        deliveries
    }

    /// The event ids of the next `count` deliveries, in the order of arrival.
    pub(crate) async fn next_ids(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.into_iter().map(|delivery| delivery.id).collect()
    }

    /// The ids of all other deliveries that have already arrived.
    pub(crate) fn drain(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            ids.push(delivery.id);
        }
        ids
    }
}

/// Sorted ids, for deliveries that may arrive in any order.
pub(crate) fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

/// A retry delay that is longer than any test and shorter than the retry deadline.
pub(crate) const LONG_DELAY: Duration = Duration::from_secs(1_800);
