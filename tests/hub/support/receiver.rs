//! A well-behaved receiver: the hub's own, with what came to it.

use std::time::Duration;

use hookhub::tools::receive::{Delivery, Receiver, ReceiverSettings, SignatureCheck};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::in_time;

/// The secret that deliveries to these receivers are signed with.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A receiver that checks each signature, answers by its script and lets the test take what came.
#[derive(Debug)]
pub(crate) struct TestReceiver {
    receiver: Receiver,
    deliveries: mpsc::Receiver<Delivery>,
}

impl TestReceiver {
    /// One that answers 200.
    pub(crate) async fn start() -> Self {
        Self::answering(&[200]).await
    }

    /// One that answers by a script.
    pub(crate) async fn answering(answers: &[u16]) -> Self {
        Self::with(ReceiverSettings { answers: answers.to_vec(), ..Self::settings() }).await
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

    /// The definition of a subscription that brings it what a pattern chooses.
    pub(crate) fn wants(&self, pattern: &str) -> Value {
        json!({"event_types": [pattern], "callback_url": self.url(), "secret": SECRET})
    }

    /// The next delivery, however it is signed.
    pub(crate) async fn any(&mut self) -> Delivery {
        in_time("a delivery arrives", self.deliveries.recv()).await.expect("the receiver runs")
    }

    /// The next delivery, with a good signature.
    pub(crate) async fn next(&mut self) -> Delivery {
        let delivery = self.any().await;
        assert_eq!(delivery.verified, SignatureCheck::Valid, "{delivery}");
        delivery
    }

    /// The next so many.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// The event ids of the next so many, in the order of their arrival.
    pub(crate) async fn take_ids(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.into_iter().map(|delivery| delivery.id).collect()
    }

    /// What else has come already.
    pub(crate) fn more(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            ids.push(delivery.id);
        }
        ids
    }
}

/// Sorted, for comparing what may come in any order.
pub(crate) fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

/// A wait that no test lives to see, and shorter than what is given up.
pub(crate) const NEVER: Duration = Duration::from_secs(1_800);
