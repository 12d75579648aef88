//! The HTTP response and the JSON document of a problem.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use super::{Code, Problem};
use crate::api::http::rate_limit_headers::insert_rate_limit;

impl Problem {
    /// Builds the HTTP response with the problem document, and with headers such as `Retry-After` and `Allow`.
    pub(crate) fn response(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after_s() {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(rate_limit) = self.rate_limit {
            insert_rate_limit(&mut response, rate_limit);
        }
        if self.code == Code::Unauthorized {
            response.insert_header(("www-authenticate", "Bearer"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        response.body(self.document(request_id).to_string())
    }

    /// Returns the problem as the JSON of an RFC 9457 problem document. `request_id` is empty in a WebSocket message.
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
            // In the document as well as in the header: a WebSocket message has no headers.
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

    /// Has no request id: `http::middleware` replaces this response by one with the id.
    fn error_response(&self) -> HttpResponse {
        self.response("")
    }
}
