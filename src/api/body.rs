//! Reading request bodies, bounded in size and time.

use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::Bytes;

use super::problem::{Code, Problem};
use super::query::Query;

/// How long a client may take over its body.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest body of a request that is not a publish.
const MOST_BYTES: usize = 256 << 10;

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentType {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
}

/// Reads a JSON body of a request that is not a publish.
pub(super) async fn json(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Problem> {
    Query::of(request, &[])?;
    match content_type(request)? {
        ContentType::Json => read(request, payload, MOST_BYTES).await,
        ContentType::Ndjson => Err(wrong_type("application/json")),
    }
}

/// Reads a body of at most `most` bytes; none is an empty one.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::PayloadTooLarge,
            format!("the body is larger than {most} bytes, the most that is read here"),
        )
    };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| usize::try_from(bytes).is_ok_and(|bytes| bytes > most)) {
        return Err(too_large());
    }
    match tokio::time::timeout(DEADLINE, payload.to_bytes_limited(most)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Err(_over)) => Err(too_large()),
        Ok(Ok(Err(error))) => {
            Err(Problem::new(Code::InvalidJson, format!("the body broke off: {error}")))
        }
        Err(_elapsed) => Err(Problem::new(
            Code::RequestTimeout,
            format!("the body did not come within {} s", DEADLINE.as_secs()),
        )),
    }
}

/// What the body is said to be; without a word it is JSON.
pub(super) fn content_type(request: &HttpRequest) -> Result<ContentType, Problem> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(ContentType::Json) };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(ContentType::Json),
        "application/x-ndjson" => Ok(ContentType::Ndjson),
        _ => Err(wrong_type("application/json (or, to publish many events, application/x-ndjson)")),
    }
}

fn wrong_type(right: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("send the body with Content-Type: {right}"))
}
