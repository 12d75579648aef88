//! Request ids: every request has one in its response header, its problem document, the audit log and the log line.

use std::fmt;
use std::rc::Rc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use tokio::time::Instant;
use uuid::Uuid;

use super::client_address::client_address;
use super::http10::close_instead_of_chunking;
use super::lean_head::shrink_head;
use super::limits::check_head;
use crate::api::problem::{Code, Problem};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Rc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Middleware around every request: assigns the request id, checks the size of the head, writes problem documents and
/// logs the request.
pub(crate) async fn assign_request_id(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    shrink_head(&mut request);
    let id: Rc<str> = Uuid::now_v7().to_string().into();
    request.extensions_mut().insert(RequestId(Rc::clone(&id)));
    let started = Instant::now();
    let method = request.method().clone();
    let response = match check_head(&request) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.error_response(problem),
    };
    let problem = response.response().error().map(|error| match error.as_error::<Problem>() {
        Some(problem) => problem.response(&id),
        // An error of actix itself, such as a path that is not UTF-8.
        None => Problem::new(Code::InvalidParameter, error.to_string()).response(&id),
    });
    let mut response = match problem {
        Some(document) => response.into_response(document),
        None => response,
    };
    close_instead_of_chunking(&mut response);
    if let Ok(value) = HeaderValue::try_from(&*id) {
        response.headers_mut().insert(HEADER, value);
    }
    let status = response.status().as_u16();
    let path = route(&response);
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let client = || client_address(response.request());
    if response.status().is_server_error() {
        tracing::warn!(request_id = %id, client = %client(), %method, path, status, took_ms, "request failed");
    } else {
        tracing::debug!(request_id = %id, client = %client(), %method, path, status, took_ms, "request");
    }
    Ok(response)
}

/// Returns the route pattern for the log, such as `/v1/events/{id}`. The path is never logged: a client may have put a
/// key in it.
fn route(response: &ServiceResponse<BoxBody>) -> String {
    response.request().match_pattern().unwrap_or_else(|| "none".to_owned())
}
