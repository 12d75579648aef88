//! What clients are told when something cannot be done: RFC 9457 problem documents with stable codes.

pub(super) mod code;

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::code::Code;
use super::http::rate_limit_headers::insert_rate_limit;
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::domain::position::Position;
use crate::log::AppendError;
use crate::store::StoreError;
use crate::streaming::presence::StreamLimitReached;

/// When one may try again whose connection is not taken, in seconds.
const CONNECT_AGAIN_S: u32 = 10;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// Where in the body: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong with it, and what would be right.
    pub detail: String,
}

/// One problem with one request.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    earliest: Option<Position>,
    allow: Option<String>,
    standing: Option<RateLimitStatus>,
}

impl Problem {
    /// A problem of the kind `code`; `detail` says what was wrong with this request and what would be right.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            earliest: None,
            allow: None,
            standing: None,
        }
    }

    /// Wrong fields.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are not valid; see errors", several.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// No such thing.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// The path exists, but only for the methods in `allow`.
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("this path answers {allow}");
        Self { allow: Some(allow.to_owned()), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// A cursor whose next event is gone; `earliest` is the oldest event that is kept, if there is one.
    pub(crate) fn cursor_expired(earliest: Option<Position>) -> Self {
        let oldest = match earliest {
            Some(earliest) => format!("the oldest kept event is {earliest}"),
            None => "at present no event is kept".to_owned(),
        };
        let detail = format!(
            "what came directly after this cursor is no longer kept; {oldest}: go on with after=earliest, and mind \
             what is missing"
        );
        Self { earliest, ..Self::new(Code::CursorExpired, detail) }
    }

    /// More than a tenant's quota allows, and how it stands with that.
    pub(crate) fn over_quota(
        code: Code,
        standing: RateLimitStatus,
        detail: impl Into<String>,
    ) -> Self {
        Self { standing: Some(standing), ..Self::new(code, detail) }
    }

    /// When the same may be tried again, in seconds.
    fn retry_after_s(&self) -> Option<u32> {
        match self.code {
            Code::Unavailable | Code::IdempotencyKeyInUse => Some(1),
            Code::TooManyConnections => Some(CONNECT_AGAIN_S),
            _ => self.standing.map(|standing| standing.reset_s),
        }
    }

    /// What it is.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Whether it is that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// As an item's result in a batch.
    pub(crate) fn as_item(&self) -> Value {
        json!({ "error": { "code": self.code.name(), "detail": self.detail, "errors": self.errors } })
    }

    /// The answer with the document.
    pub(crate) fn response(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after_s() {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(standing) = self.standing {
            insert_rate_limit(&mut response, standing);
        }
        if self.code == Code::Unauthorized {
            response.insert_header(("www-authenticate", "Bearer"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        response.body(self.document(request_id).to_string())
    }

    /// The document's JSON.
    pub(crate) fn document(&self, request_id: &str) -> Value {
        let code = self.code.name();
        let mut document = json!({
            "type": format!("urn:hookhub:problem:{code}"),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "detail": self.detail,
            "code": code,
            "request_id": request_id,
        });
        if let Some(members) = document.as_object_mut() {
            if !self.errors.is_empty() {
                members.insert("errors".into(), json!(self.errors));
            }
            if let Some(earliest) = self.earliest {
                members.insert("earliest".into(), json!(earliest.to_string()));
            }
            // Here as well as in the head: a WebSocket's answers have none.
            if let Some(seconds) = self.retry_after_s() {
                members.insert("retry_after_s".into(), json!(seconds));
            }
        }
        document
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// The request's own id is put in by the middleware, which knows it.
    fn error_response(&self) -> HttpResponse {
        self.response("")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(%reason, "the database is not available");
                Self::new(
                    Code::Unavailable,
                    "the database is not available; look whether a change was made before you repeat it",
                )
            }
            StoreError::Refused(_) | StoreError::Unreadable(_) => {
                tracing::error!(%error, "the store failed");
                Self::new(Code::Internal, "the hub failed; the operator finds the cause in its log")
            }
        }
    }
}

impl From<StreamLimitReached> for Problem {
    fn from(full: StreamLimitReached) -> Self {
        let standing = match full {
            StreamLimitReached::Tenant(limit) => {
                Some(RateLimitStatus { limit, remaining: 0, reset_s: CONNECT_AGAIN_S })
            }
            StreamLimitReached::Node(_)
            | StreamLimitReached::Key(_)
            | StreamLimitReached::Address(_) => None,
        };
        let detail = match full {
            StreamLimitReached::Node(most) => format!(
                "this node has {most} streams and waiting polls open, as many as it may have \
                 (HOOKHUB_MAX_STREAMS); try again later, or poll without wait"
            ),
            StreamLimitReached::Key(most) => format!(
                "{most} streams and waiting polls are open with this key, as many as one key may have \
                 (HOOKHUB_MAX_STREAMS_PER_KEY); close some first, or poll without wait"
            ),
            StreamLimitReached::Tenant(most) => format!(
                "this tenant may have {most} streams and waiting polls open on each node (its quota streams), and has \
                 them; close some first, or poll without wait"
            ),
            StreamLimitReached::Address(most) => format!(
                "{most} streams and waiting polls are open from this address, as many as one address may have \
                 (HOOKHUB_MAX_STREAMS_PER_ADDRESS); close some first, or poll without wait"
            ),
        };
        Self { standing, ..Self::new(Code::TooManyConnections, detail) }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable => Self::new(
                Code::Unavailable,
                "the database is not available; nothing was stored, send it again",
            ),
            AppendError::Unknown => Self::new(
                Code::Unavailable,
                "the database went away in the middle of the commit, the event may be stored or not: send it again, \
                 with the same Idempotency-Key if it must not be there twice",
            ),
            AppendError::Refused => {
                Self::new(Code::Internal, "the hub failed; the operator finds the cause in its log")
            }
        }
    }
}
