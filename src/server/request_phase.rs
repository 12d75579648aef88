//! Whose turn it is on a connection: the client's, to send the head of a request, or the hub's, to answer.

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

/// What a connection and the requests on it know together.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Rc<State>);

#[derive(Debug, Default)]
struct State {
    heads: Cell<u64>,
    answering: Cell<bool>,
    answered: Cell<Option<Instant>>,
}

impl Turn {
    /// How many heads of requests were complete so far.
    pub(super) fn heads(&self) -> u64 {
        self.0.heads.get()
    }

    /// Whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.0.answering.get()
    }

    /// Since when it is the client's turn again, after the first answer.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.0.answered.get().filter(|_| !self.is_answering())
    }

    /// Begins the answer to a request whose head is complete.
    pub(super) fn answer(&self) -> Answering {
        self.0.heads.set(self.heads() + 1);
        self.0.answering.set(true);
        Answering(self.clone())
    }
}

/// An answer on its way; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Turn);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.answering.set(false);
        self.0.0.answered.set(Some(Instant::now()));
    }
}

/// Middleware: lets the connection know from when to when a request is being answered.
pub(super) async fn take_turns(
    request: ServiceRequest,
    next: Next<impl MessageBody + Unpin>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let answering = request.conn_data::<Turn>().map(Turn::answer);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Body { body, _answering: answering }))
}

/// The body of an answer, to whose end it is the hub's turn.
struct Body<B> {
    body: B,
    _answering: Option<Answering>,
}

impl<B: MessageBody + Unpin> MessageBody for Body<B> {
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
