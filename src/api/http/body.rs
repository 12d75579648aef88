//! Reading request bodies, bounded in size and time.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::Bytes;

use super::query::Query;
use crate::api::problem::{Code, Problem};
use crate::api::state::api;

/// How long a body that is on its way when the node begins to stop may still take.
const WHILE_STOPPING: Duration = Duration::from_secs(5);
/// The largest body of a request that is not a publish.
const MOST_BYTES: usize = 256 << 10;

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
}

/// Reads a JSON body of a request that is not a publish.
pub(crate) async fn json(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Problem> {
    Query::of(request, &[])?;
    match content_type(request)? {
        ContentType::Json => read(request, payload, MOST_BYTES).await,
        ContentType::Ndjson => Err(wrong_type("application/json")),
    }
}

/// Reads a body of at most `most` bytes; none is an empty one.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    most: usize,
) -> Result<Bytes, Problem> {
    let api = api(request)?;
    must_be_plain(request)?;
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
    if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > most)) {
        return Err(too_large());
    }
    let body = tokio::time::timeout(api.body_deadline, payload.to_bytes_limited(most));
    let stopping = async {
        api.stopping.cancelled().await;
        tokio::time::sleep(WHILE_STOPPING).await;
    };
    let read = tokio::select! {
        read = body => read,
        () = stopping => {
            let detail = "this node stops, and the body was not there yet; send it again";
            return Err(Problem::new(Code::Unavailable, detail));
        }
    };
    match read {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Err(_over)) => Err(too_large()),
        Ok(Ok(Err(error))) => Err(broke_off(&error)),
        Err(_elapsed) => Err(Problem::new(
            Code::RequestTimeout,
            format!(
                "the body did not come within {} s (HOOKHUB_BODY_DEADLINE_S)",
                api.body_deadline.as_secs_f32()
            ),
        )),
    }
}

/// Refuses a body that is compressed: it would be as large as its sender likes.
fn must_be_plain(request: &HttpRequest) -> Result<(), Problem> {
    let mut encodings = request.headers().get_all(CONTENT_ENCODING);
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "send the body as it is, without Content-Encoding: it is not decompressed here";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

fn broke_off(error: &actix_web::Error) -> Problem {
    let detail = match error.as_error() {
        Some(PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted) => {
            "the body broke off, or its chunks are not as HTTP has them (RFC 9112, 7.1)".to_owned()
        }
        _ => format!("the body cannot be read: {error}"),
    };
    Problem::new(Code::InvalidJson, detail)
}

/// What the body is said to be; without a word it is JSON.
pub(crate) fn content_type(request: &HttpRequest) -> Result<ContentType, Problem> {
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

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn of(value: &[u8]) -> Result<ContentType, Problem> {
        let mut request = TestRequest::default();
        if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(value) {
            request = request.insert_header((CONTENT_TYPE, value));
        }
        content_type(&request.to_http_request())
    }

    proptest! {
        #[test]
        fn parameters_and_case_change_no_content_type(
            parameters in "( ?; ?[a-z]{1,9}=(\"[ -!#-~]{0,9}\"|[a-z0-9-]{0,9})){0,3}",
            upper in any::<bool>(),
        ) {
            for (name, expected) in
                [("application/json", ContentType::Json), ("application/x-ndjson", ContentType::Ndjson)]
            {
                let name = if upper { name.to_uppercase() } else { name.to_owned() };
                prop_assert_eq!(of(format!("{name}{parameters}").as_bytes()).unwrap(), expected);
            }
        }

        #[test]
        fn any_value_is_understood_or_refused(value in prop::collection::vec(0x20_u8.., 0..40)) {
            if let Err(problem) = of(&value) {
                prop_assert_eq!(problem.code(), Code::UnsupportedMediaType);
            }
        }
    }
}
