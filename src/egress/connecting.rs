//! Whether a request had a connection made for it, or went out on one that was there.

use std::cell::Cell;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    static CONNECTING: Cell<bool>;
}

/// Carries a request out, and says whether a connection was begun for it.
pub(crate) async fn noting<T>(request: impl Future<Output = T>) -> (T, bool) {
    CONNECTING
        .scope(Cell::new(false), async {
            let done = request.await;
            (done, CONNECTING.with(Cell::get))
        })
        .await
}

/// Says that a connection is begun for the request that is carried out.
pub(crate) fn note() {
    // Outside of any request there is nobody to tell.
    CONNECTING.try_with(|connecting| connecting.set(true)).unwrap_or_default();
}

/// Wraps a client's connector, so that [`noting`] hears of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoteConnecting;

impl<S> Layer<S> for NoteConnecting {
    type Service = Noting<S>;

    fn layer(&self, connector: S) -> Noting<S> {
        Noting { connector }
    }
}

/// A connector that tells the request it was called for.
#[derive(Debug, Clone)]
pub(crate) struct Noting<S> {
    connector: S,
}

impl<S: Service<R>, R> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        note();
        self.connector.call(request)
    }
}
