//! Each request gets an id, which is in its answer, in its problem document and in the log line about it.

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
use super::headers;
use super::waiting_head::make_lean;
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

/// Middleware: names the request, and gives problems their documents.
pub(crate) async fn give_request_id(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    make_lean(&mut request);
    let id: Rc<str> = Uuid::now_v7().to_string().into();
    request.extensions_mut().insert(RequestId(Rc::clone(&id)));
    let began = Instant::now();
    let method = request.method().clone();
    let response = match headers::check(&request) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.error_response(problem),
    };
    let problem = response.response().error().map(|error| match error.as_error::<Problem>() {
        Some(problem) => problem.response(&id),
        // What the framework itself refuses, such as a path that is not UTF-8.
        None => Problem::new(Code::InvalidParameter, error.to_string()).response(&id),
    });
    let mut response = match problem {
        Some(document) => response.into_response(document),
        None => response,
    };
    headers::suit(&mut response);
    if let Ok(value) = HeaderValue::try_from(&*id) {
        response.headers_mut().insert(HEADER, value);
    }
    let status = response.status().as_u16();
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let client = || client_address(response.request());
    if response.status().is_server_error() {
        let path = route(&response);
        tracing::warn!(request_id = %id, client = %client(), %method, path, status, took_ms, "request failed");
    } else {
        let path = route(&response);
        tracing::debug!(request_id = %id, client = %client(), %method, path, status, took_ms, "request");
    }
    Ok(response)
}

/// The path as the hub knows it, `/v1/events/{id}`: what stands in its place in a request may be anything, a key too.
fn route(response: &ServiceResponse<BoxBody>) -> String {
    response.request().match_pattern().unwrap_or_else(|| "none".to_owned())
}
