//! A receiver that holds each delivery until the test releases it, and counts the held ones.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::in_time;
use super::raw_http::{RawServer, read_webhook_id, respond};

/// The deliveries that have reached the gate.
#[derive(Debug, Default, Clone)]
pub(crate) struct GateState {
    /// Event ids of all deliveries, in the order of arrival.
    pub(crate) arrived: Vec<String>,
    /// Number of deliveries held now.
    pub(crate) held: usize,
    /// Maximum number of deliveries held at the same time.
    pub(crate) max_held: usize,
}

/// A receiver that responds to each released delivery.
#[derive(Debug)]
pub(crate) struct Gate {
    server: RawServer,
    state: watch::Sender<GateState>,
    permits: Arc<Semaphore>,
}

impl Gate {
    /// Starts a receiver that holds all deliveries, and responds 200 to the released ones.
    pub(crate) async fn closed() -> Self {
        Self::closed_with(|_| "200 OK").await
    }

    /// The same receiver, which responds with `status(n)` to its delivery number `n`; `n` starts at 0.
    pub(crate) async fn closed_with(status: fn(usize) -> &'static str) -> Self {
        let (state, permits) =
            (watch::Sender::new(GateState::default()), Arc::new(Semaphore::new(0)));
        let (shared_state, shared_permits) = (state.clone(), Arc::clone(&permits));
        let server = RawServer::start(move |stream| {
            hold(stream, status, shared_state.clone(), Arc::clone(&shared_permits))
        });
        Self { server: server.await, state, permits }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Releases `count` deliveries, now or when they arrive.
    pub(crate) fn release(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// Releases all deliveries from now on.
    pub(crate) fn release_all(&self) {
        self.release(Semaphore::MAX_PERMITS / 2);
    }

    /// Measures [`GateState::max_held`] again from now on.
    pub(crate) fn reset_max_held(&self) {
        self.state.send_modify(|state| state.max_held = state.held);
    }

    pub(crate) fn state(&self) -> GateState {
        self.state.borrow().clone()
    }

    /// Waits until a condition holds.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        condition: impl Fn(&GateState) -> bool,
    ) -> GateState {
        let mut state = self.state.subscribe();
        let reached = in_time(what, state.wait_for(|state| condition(state))).await;
        reached.expect("the gate exists").clone()
    }

    /// Waits until exactly `count` deliveries are held.
    pub(crate) async fn wait_until_held(&self, count: usize) -> GateState {
        self.wait_for("deliveries are held", |state| state.held == count).await
    }
}

async fn hold(
    mut stream: TcpStream,
    status: fn(usize) -> &'static str,
    state: watch::Sender<GateState>,
    permits: Arc<Semaphore>,
) {
    while let Some(id) = read_webhook_id(&mut stream).await {
        let mut number = 0;
        state.send_modify(|state| {
            number = state.arrived.len();
            state.arrived.push(id);
            state.held += 1;
            state.max_held = state.max_held.max(state.held);
        });
        permits.acquire().await.expect("the gate exists").forget();
        state.send_modify(|state| state.held -= 1);
        if !respond(&mut stream, status(number)).await {
            return;
        }
    }
}
