//! A receiver that holds each delivery until the test releases it, and counts the held ones.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::in_time;
use super::raw_http::{RawServer, answer, read_request};

/// The deliveries that have reached the gate.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Ids of all deliveries, in the order of arrival.
    pub(crate) arrived: Vec<String>,
    /// Number of deliveries held now.
    pub(crate) held: usize,
    /// Maximum number of deliveries held at once.
    pub(crate) most_held: usize,
}

/// A receiver that responds 200 to each released delivery.
#[derive(Debug)]
pub(crate) struct Gate {
    server: RawServer,
    seen: watch::Sender<Seen>,
    passes: Arc<Semaphore>,
}

impl Gate {
    pub(crate) async fn closed() -> Self {
        let (seen, passes) = (watch::Sender::new(Seen::default()), Arc::new(Semaphore::new(0)));
        let (all_seen, all_passes) = (seen.clone(), Arc::clone(&passes));
        let server =
            RawServer::start(move |stream| hold(stream, all_seen.clone(), Arc::clone(&all_passes)))
                .await;
        Self { server, seen, passes }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Releases `count` deliveries, now or when they arrive.
    pub(crate) fn let_pass(&self, count: usize) {
        self.passes.add_permits(count);
    }

    /// Releases all deliveries from now on.
    pub(crate) fn open(&self) {
        self.let_pass(Semaphore::MAX_PERMITS / 2);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let found = in_time(what, seen.wait_for(|seen| wanted(seen))).await;
        found.expect("the gate is there").clone()
    }

    /// Waits until `count` deliveries are held.
    pub(crate) async fn holding(&self, count: usize) -> Seen {
        self.until("deliveries stand at the gate", |seen| seen.held == count).await
    }
}

async fn hold(mut stream: TcpStream, seen: watch::Sender<Seen>, passes: Arc<Semaphore>) {
    while let Some(id) = read_request(&mut stream).await {
        seen.send_modify(|seen| {
            seen.arrived.push(id);
            seen.held += 1;
            seen.most_held = seen.most_held.max(seen.held);
        });
        let pass = passes.acquire().await;
        pass.expect("the gate is there").forget();
        seen.send_modify(|seen| seen.held -= 1);
        if !answer(&mut stream, "200 OK").await {
            return;
        }
    }
}
