//! Running a change to its end when its client disconnects.
//!
//! A statement that was sent to the database takes effect even if nobody waits for its result. The operation of the
//! caller's key must last as long, because a revocation waits for it. A node that stops does not wait for changes whose
//! clients have disconnected.

use std::panic::resume_unwind;
use std::pin::Pin;

use actix_web::{FromRequest, Handler, rt};

/// Runs `change` in a task of its own, so that it reaches its end even if the returned future is dropped.
pub(crate) async fn run_to_completion<T: 'static>(change: impl Future<Output = T> + 'static) -> T {
    match rt::spawn(change).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// A handler that runs to completion once its request has arrived.
#[derive(Clone)]
pub(crate) struct RunToCompletion<F>(pub(crate) F);

impl<F, Args> Handler<Args> for RunToCompletion<F>
where
    F: Handler<Args>,
    Args: FromRequest,
    F::Output: 'static,
    F::Future: 'static,
{
    type Output = F::Output;
    type Future = Pin<Box<dyn Future<Output = F::Output>>>;

    fn call(&self, args: Args) -> Self::Future {
        Box::pin(run_to_completion(self.0.call(args)))
    }
}
