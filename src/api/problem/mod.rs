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

/// The seconds after which a client may retry when a connection limit is reached.
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
    /// Creates a problem with the code's status and title. `detail` names the cause, the value at fault and the fix.
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

    /// Creates a 422 `validation_failed` problem for these invalid fields.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are invalid; see errors", several.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// Creates a 422 `validation_failed` problem for one invalid field. An empty pointer stands for the whole body.
    pub(crate) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, detail)])
    }

    /// Creates a 404 `not_found` problem with the detail "no such {what}". `what` begins with a noun, such as `event`.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("no such {what}"))
    }

    /// 409: other requests changed the same resource during every attempt. `what`: its kind, such as `subscription`.
    pub(crate) fn concurrent_modification(what: &str) -> Self {
        let detail = format!("other requests changed this {what} at the same time; retry");
        Self::new(Code::Conflict, detail)
    }

    /// 405. `allow`: the methods that the path supports, as in the `Allow` header.
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("this path supports {allow}");
        Self { allow: Some(allow.to_owned()), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// 410. `earliest`: the oldest retained event; `None` if no event is retained.
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

    /// 429. `code`: `rate_limited` or `quota_exceeded`. `rate_limit`: for the response headers.
    pub(crate) fn over_quota(
        code: Code,
        rate_limit: RateLimitStatus,
        detail: impl Into<String>,
    ) -> Self {
        Self { rate_limit: Some(rate_limit), ..Self::new(code, detail) }
    }

    /// Returns the seconds after which the client may retry; `None` for a problem that names no time.
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

    /// Returns the problem as JSON for one invalid item in the response to a batch.
    pub(crate) fn as_item(&self) -> Value {
        json!({ "error": { "code": self.code.name(), "detail": self.detail, "errors": self.errors } })
    }
}
