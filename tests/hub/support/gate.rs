//! A receiver that holds each delivery until the test lets it pass, and counts how many it holds.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::in_time;
use super::raw_http::{RawServer, answer, read_request};

/// What has been at the gate.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Ids of all that came, in order.
    pub(crate) arrived: Vec<String>,
    /// How many stand at the gate.
    pub(crate) held: usize,
    /// The most that ever stood there at once.
    pub(crate) most_held: usize,
}

/// The gate. It answers 200 to whom it lets pass.
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

    /// Lets so many pass, now or when they come.
    pub(crate) fn let_pass(&self, count: usize) {
        self.passes.add_permits(count);
    }

    /// Lets everything pass from now on.
    pub(crate) fn open(&self) {
        self.let_pass(Semaphore::MAX_PERMITS / 2);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what was seen is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let found = in_time(what, seen.wait_for(|seen| wanted(seen))).await;
        found.expect("the gate is there").clone()
    }

    /// Waits until so many stand at the gate.
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
