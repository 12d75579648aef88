//! The phase of the exchange on a connection: the client sends the head of a request, or the hub responds.
//!
//! The connection enforces the head and idle timeouts, but only the HTTP service knows when a head is complete and when
//! a response has ended. Both share one [`RequestPhase`].

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use bytes::Bytes;
use tokio::time::Instant;

/// The phase of one connection, shared between the connection and its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestPhase(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    heads: Cell<u64>,
    responding: Cell<bool>,
    last_response_end: Cell<Option<Instant>>,
}

impl RequestPhase {
    /// The number of complete request heads on this connection so far.
    pub(super) fn heads(&self) -> u64 {
        self.0.heads.get()
    }

    /// Whether the head of a request is complete and its response has not ended. The body may still be arriving.
    pub(super) fn is_responding(&self) -> bool {
        self.0.responding.get()
    }

    /// The time when the last response ended. `None` before the first response and while the hub responds.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.0.last_response_end.get().filter(|_| !self.is_responding())
    }

    /// Records that a request head is complete. The response ends when the guard is dropped.
    pub(super) fn start_response(&self) -> ResponseGuard {
        self.0.heads.set(self.heads() + 1);
        self.0.responding.set(true);
        ResponseGuard(self.clone())
    }
}

/// A response in progress; it ends when the guard is dropped.
#[derive(Debug)]
pub(super) struct ResponseGuard(RequestPhase);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.0.responding.set(false);
        self.0.0.last_response_end.set(Some(Instant::now()));
    }
}

/// Middleware that records the start and the end of each response in the connection's [`RequestPhase`].
pub(super) async fn track_request_phase(
    request: ServiceRequest,
    next: Next<impl MessageBody + Unpin>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let guard = request.conn_data::<RequestPhase>().map(RequestPhase::start_response);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| GuardedBody { body, _guard: guard }))
}

/// A response body that ends the response when it is dropped.
struct GuardedBody<B> {
    body: B,
    _guard: Option<ResponseGuard>,
}

impl<B: MessageBody + Unpin> MessageBody for GuardedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
