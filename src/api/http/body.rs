//! Reading request bodies, bounded in size and time.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::Bytes;

use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::api;

/// How long a node that stops waits for the rest of a body.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    Ndjson,
}

/// Reads a whole body. 413 for a body over `max_bytes`, 415 for a compressed one, 400 for an incomplete one, 408 after
/// the body deadline, 503 if the node stops first.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    max_bytes: usize,
) -> ApiResult<Bytes> {
    let api = api(request)?;
    require_uncompressed(request)?;
    let too_large = || {
        let detail = format!("the body is larger than {max_bytes} bytes, the limit of this path");
        Problem::new(Code::PayloadTooLarge, detail)
    };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > max_bytes))
    {
        return Err(too_large());
    }
    let body = tokio::time::timeout(api.body_deadline, payload.to_bytes_limited(max_bytes));
    let stopping = async {
        api.stopping.cancelled().await;
        tokio::time::sleep(STOPPING_TIMEOUT).await;
    };
    let read = tokio::select! {
        read = body => read,
        () = stopping => {
            let detail = "this node stopped before the whole body arrived; send the request again";
            return Err(Problem::new(Code::Unavailable, detail));
        }
    };
    match read {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Err(_over)) => Err(too_large()),
        Ok(Ok(Err(error))) => Err(incomplete(&error)),
        Err(_elapsed) => Err(Problem::new(
            Code::RequestTimeout,
            format!(
                "the body did not arrive within {} s (HOOKHUB_BODY_DEADLINE_S)",
                api.body_deadline.as_secs_f32()
            ),
        )),
    }
}

/// 415 for a compressed body: its size is unknown until it is decompressed.
fn require_uncompressed(request: &HttpRequest) -> ApiResult<()> {
    let mut encodings = request.headers().get_all(CONTENT_ENCODING);
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "compressed bodies are not supported; send the body without Content-Encoding";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// Creates a 400 `invalid_json` problem for a body that ended early or cannot be read.
fn incomplete(error: &actix_web::Error) -> Problem {
    let detail = match error.as_error() {
        Some(PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted) => {
            "the body is incomplete, or its chunked encoding is invalid (RFC 9112, 7.1)".to_owned()
        }
        _ => format!("the body cannot be read: {error}"),
    };
    Problem::new(Code::InvalidJson, detail)
}

/// The type of the body; JSON without a `Content-Type` header. 415 for any other type than JSON and NDJSON.
pub(crate) fn content_type(request: &HttpRequest) -> ApiResult<ContentType> {
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

/// Creates a 415 `unsupported_media_type` problem. `expected`: the content type that the request should have.
pub(super) fn wrong_type(expected: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("send the body with Content-Type: {expected}"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &[u8]) -> Result<ContentType, Problem> {
        let mut request = TestRequest::default();
        if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(value) {
            request = request.insert_header((CONTENT_TYPE, value));
        }
        content_type(&request.to_http_request())
    }

    proptest! {
        #[test]
        fn a_content_type_is_recognised_in_any_case_and_with_any_parameters(
            parameters in "( ?; ?[a-z]{1,9}=(\"[ -!#-~]{0,9}\"|[a-z0-9-]{0,9})){0,3}",
            upper in any::<bool>(),
        ) {
            for (name, expected) in
                [("application/json", ContentType::Json), ("application/x-ndjson", ContentType::Ndjson)]
            {
                let name = if upper { name.to_uppercase() } else { name.to_owned() };
                prop_assert_eq!(parse(format!("{name}{parameters}").as_bytes()).unwrap(), expected);
            }
        }

        #[test]
        fn an_unknown_content_type_is_refused(value in prop::collection::vec(0x20_u8.., 0..40)) {
            if let Err(problem) = parse(&value) {
                prop_assert_eq!(problem.code(), Code::UnsupportedMediaType);
            }
        }
    }
}
