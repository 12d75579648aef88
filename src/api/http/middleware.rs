//! The middleware around every request: the request's id, the size limits on its head, problem documents, the log line.

use std::fmt;
use std::rc::Rc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use tokio::time::Instant;
use uuid::Uuid;

use super::headers::client_address;
use crate::api::problem::{ApiResult, Code, Problem};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Rc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Assigns the request's id, checks its head, calls the handler, and logs. Turns each error into a problem document with
/// the id.
pub(crate) async fn request_middleware(
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

/// The route pattern for the log, never the path: a client may have put a key in it.
fn route(response: &ServiceResponse<BoxBody>) -> String {
    response.request().match_pattern().unwrap_or_else(|| "none".to_owned())
}

/// The longest request target, in bytes. A stream token has up to 4,096 bytes, and `types` may stand beside it.
const MAX_TARGET_BYTES: usize = 8 << 10;
/// The maximum number of header fields. actix itself refuses a head with more than 96 fields or 128 KiB.
const MAX_FIELDS: usize = 64;
/// The size limit of all header fields together, as they are on the wire.
const MAX_FIELD_BYTES: usize = 32 << 10;
/// The bytes of a field besides its name and value: a colon, a space and the line end.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// 4xx if the request's target or headers exceed a limit.
fn check_head(request: &ServiceRequest) -> ApiResult<()> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail = format!(
            "the path and query have {target} bytes; the limit is {MAX_TARGET_BYTES} bytes"
        );
        return Err(Problem::new(Code::UriTooLong, detail));
    }
    let headers = request.headers();
    if headers.len() > MAX_FIELDS {
        let detail =
            format!("the request has {} header fields; the limit is {MAX_FIELDS}", headers.len());
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
        .sum();
    if bytes > MAX_FIELD_BYTES {
        let detail =
            format!("the header fields have {bytes} bytes; the limit is {MAX_FIELD_BYTES} bytes");
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

/// Reallocates the header map of a long poll to its exact size: actix allocates 6 KiB for each request head, which would
/// stay in use while the poll waits.
fn shrink_head(request: &mut ServiceRequest) {
    if !request.query_string().contains("wait=") {
        return;
    }
    let headers = request.headers_mut();
    let mut lean = HeaderMap::with_capacity(headers.len_keys());
    for (name, value) in &*headers {
        lean.append(name.clone(), value.clone());
    }
    *headers = lean;
}

/// Ends a response of unknown length with its connection for clients without chunked encoding (RFC 9112, 6.1).
fn close_instead_of_chunking<B: MessageBody>(response: &mut ServiceResponse<B>) {
    let is_old = response.request().version() < Version::HTTP_11;
    if is_old && response.response().body().size() == BodySize::Stream {
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_shrunk_head_keeps_its_fields() {
        let mut request = TestRequest::with_uri("/v1/events?wait=30").to_srv_request();
        let mut fields = HeaderMap::with_capacity(16);
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            fields.append(name.parse().unwrap(), value.parse().unwrap());
        }
        *request.headers_mut() = fields;
        let capacity = request.headers().capacity();
        shrink_head(&mut request);
        assert!(request.headers().capacity() < capacity);
        let values = |name| -> Vec<_> {
            request.headers().get_all(name).map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!((values("a"), values("b")), (vec!["1", "3"], vec!["2"]));
        assert_eq!(request.headers().len(), 3);
    }
}
