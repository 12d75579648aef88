//! Problems: the errors of the API as RFC 9457 documents with stable codes.

mod code;
mod conversions;
mod response;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::code::Code;
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::domain::position::Position;

/// The seconds after which a client retries when a connection limit is reached.
const CONNECTION_RETRY_S: u32 = 10;

/// One invalid field of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// The field's JSON pointer (RFC 6901); empty for the whole body.
    pub pointer: String,
    /// The cause, and the values that are accepted.
    pub detail: String,
}

impl FieldError {
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// The result of a request, or of a step of it.
pub(crate) type ApiResult<T = HttpResponse> = Result<T, Problem>;

/// The error of one request.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    earliest: Option<Position>,
    allow: Option<String>,
    rate_limit: Option<RateLimitStatus>,
}

impl Problem {
    /// A problem with a `detail` that names the cause, the value at fault and the fix.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            earliest: None,
            allow: None,
            rate_limit: None,
        }
    }

    /// 422 for invalid fields.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are invalid; see errors", several.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// 422 for one invalid field; an empty pointer stands for the whole body.
    pub(crate) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, detail)])
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("no such {what}"))
    }

    /// 409 after several attempts that each met a change by another request.
    pub(crate) fn concurrent_modification(what: &str) -> Self {
        let detail = format!("other requests changed this {what} at the same time; retry");
        Self::new(Code::Conflict, detail)
    }

    /// 405 for a path that has only the methods in `allow`.
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("this path supports {allow}");
        Self { allow: Some(allow.to_owned()), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// 410 for a cursor after which events have expired. `earliest` is the oldest retained event.
    pub(crate) fn cursor_expired(earliest: Option<Position>) -> Self {
        let oldest = match earliest {
            Some(earliest) => format!("the oldest retained event is {earliest}"),
            None => "no event is retained".to_owned(),
        };
        let detail = format!(
            "events after this cursor have expired; {oldest}. Continue with after=earliest; the expired events are lost"
        );
        Self { earliest, ..Self::new(Code::CursorExpired, detail) }
    }

    /// 429 for a quota of the tenant, with the state of its rate limit.
    pub(crate) fn over_quota(
        code: Code,
        rate_limit: RateLimitStatus,
        detail: impl Into<String>,
    ) -> Self {
        Self { rate_limit: Some(rate_limit), ..Self::new(code, detail) }
    }

    /// The seconds after which the client may retry.
    fn retry_after_s(&self) -> Option<u32> {
        match self.code {
            Code::Unavailable | Code::IdempotencyKeyInUse => Some(1),
            Code::TooManyConnections => Some(CONNECTION_RETRY_S),
            _ => self.rate_limit.map(|rate_limit| rate_limit.reset_s),
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The result of one item in a batch.
    pub(crate) fn as_item(&self) -> Value {
        json!({ "error": { "code": self.code.name(), "detail": self.detail, "errors": self.errors } })
    }
}
