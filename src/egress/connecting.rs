//! How the hub connects: its name, its limits, and whether a request opened a connection or reused one.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

/// The value of `user-agent` in every request.
pub(super) const USER_AGENT: &str = concat!("hookhub/", env!("CARGO_PKG_VERSION"));
/// Time to open a connection, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept for each host: enough for eight subscriptions with the highest `max_in_flight`.
pub(super) const MAX_IDLE_PER_HOST: usize = 512;
/// How long an idle connection is kept: less than the usual receiver keeps its side open.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

tokio::task_local! {
    static HAS_CONNECTED: Cell<bool>;
}

/// Runs a request. Also returns whether it began to open a connection; false: it reused one.
pub(super) async fn detect_connecting<T>(request: impl Future<Output = T>) -> (T, bool) {
    HAS_CONNECTED
        .scope(Cell::new(false), async {
            let result = request.await;
            (result, HAS_CONNECTED.with(Cell::get))
        })
        .await
}

/// Records, for [`detect_connecting`], that the current task's request opens a connection.
pub(super) fn record_connecting() {
    // Outside of `detect_connecting` nothing needs the record.
    HAS_CONNECTED.try_with(|connected| connected.set(true)).unwrap_or_default();
}

/// Wraps a client's connector, so that [`detect_connecting`] sees when it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordConnecting;

impl<S> Layer<S> for RecordConnecting {
    type Service = RecordingConnector<S>;

    fn layer(&self, connector: S) -> RecordingConnector<S> {
        RecordingConnector { connector }
    }
}

/// A connector that calls [`record_connecting`] before it connects.
#[derive(Debug, Clone)]
pub(super) struct RecordingConnector<S> {
    connector: S,
}

impl<S: Service<R>, R> Service<R> for RecordingConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        record_connecting();
        self.connector.call(request)
    }
}
