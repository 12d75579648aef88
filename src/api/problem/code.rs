//! The codes of problems, each with its HTTP status and title. They are part of the HTTP contract.

use actix_web::http::StatusCode;

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidJson,
    InvalidParameter,
    InvalidHeader,
    Unauthorized,
    Forbidden,
    /// Also for an object of another tenant, and for one that the key may not see.
    NotFound,
    MethodNotAllowed,
    /// The head or the body of the request did not arrive in time.
    RequestTimeout,
    /// The state of the object forbids the request, or another request changed the object at the same time.
    Conflict,
    IdempotencyKeyInUse,
    /// The subscription has as many valid signing secrets as it may have.
    TooManySecrets,
    /// The first attempt of the delivery has not ended.
    DeliveryPending,
    /// The receiver of the subscription is not verified yet.
    SubscriptionUnverified,
    /// The subscription does not wait for a verification.
    NothingToVerify,
    /// Events after the cursor have expired.
    CursorExpired,
    PayloadTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    ValidationFailed,
    IdempotencyKeyReused,
    /// The tenant still has keys or subscriptions.
    TenantInUse,
    HeadersTooLarge,
    /// A connection limit is reached.
    TooManyConnections,
    /// The tenant published more events than its rate limit allows.
    RateLimited,
    QuotaExceeded,
    Internal,
    /// The database is unavailable, or the node is stopping.
    Unavailable,
}

/// The fixed parts of a problem.
struct Kind {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
}

fn kind(status: StatusCode, name: &'static str, title: &'static str) -> Kind {
    Kind { status, name, title }
}

impl Code {
    pub(crate) const ALL: [Self; 27] = [
        Self::InvalidJson,
        Self::InvalidParameter,
        Self::InvalidHeader,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::IdempotencyKeyInUse,
        Self::TooManySecrets,
        Self::DeliveryPending,
        Self::SubscriptionUnverified,
        Self::NothingToVerify,
        Self::CursorExpired,
        Self::PayloadTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::ValidationFailed,
        Self::IdempotencyKeyReused,
        Self::TenantInUse,
        Self::HeadersTooLarge,
        Self::TooManyConnections,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::Internal,
        Self::Unavailable,
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        self.kind().name
    }

    pub(crate) fn title(self) -> &'static str {
        self.kind().title
    }

    pub(crate) fn status(self) -> StatusCode {
        self.kind().status
    }

    fn kind(self) -> Kind {
        match self {
            Self::InvalidJson => kind(StatusCode::BAD_REQUEST, "invalid_json", "Invalid JSON"),
            Self::InvalidParameter => {
                kind(StatusCode::BAD_REQUEST, "invalid_parameter", "Invalid query parameter")
            }
            Self::InvalidHeader => {
                kind(StatusCode::BAD_REQUEST, "invalid_header", "Invalid header")
            }
            Self::Unauthorized => {
                kind(StatusCode::UNAUTHORIZED, "unauthorized", "Authentication required")
            }
            Self::Forbidden => kind(StatusCode::FORBIDDEN, "forbidden", "Insufficient permissions"),
            Self::NotFound => kind(StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => {
                kind(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::RequestTimeout => {
                kind(StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request timeout")
            }
            Self::Conflict => kind(StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::IdempotencyKeyInUse => {
                kind(StatusCode::CONFLICT, "idempotency_key_in_use", "Idempotency key in use")
            }
            Self::TooManySecrets => {
                kind(StatusCode::CONFLICT, "too_many_secrets", "Too many signing secrets")
            }
            Self::DeliveryPending => {
                kind(StatusCode::CONFLICT, "delivery_pending", "Pending delivery")
            }
            Self::SubscriptionUnverified => {
                kind(StatusCode::CONFLICT, "subscription_unverified", "Unverified subscription")
            }
            Self::NothingToVerify => {
                kind(StatusCode::CONFLICT, "nothing_to_verify", "Nothing to verify")
            }
            Self::CursorExpired => kind(StatusCode::GONE, "cursor_expired", "Expired cursor"),
            Self::PayloadTooLarge => {
                kind(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "Payload too large")
            }
            Self::UriTooLong => kind(StatusCode::URI_TOO_LONG, "uri_too_long", "URI too long"),
            Self::UnsupportedMediaType => kind(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
            ),
            Self::ValidationFailed => {
                kind(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", "Invalid request")
            }
            Self::IdempotencyKeyReused => kind(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Reused idempotency key",
            ),
            Self::TenantInUse => kind(StatusCode::CONFLICT, "tenant_in_use", "Tenant in use"),
            Self::HeadersTooLarge => kind(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "Header fields too large",
            ),
            Self::TooManyConnections => {
                kind(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", "Too many connections")
            }
            Self::RateLimited => {
                kind(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Rate limit exceeded")
            }
            Self::QuotaExceeded => {
                kind(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", "Quota exceeded")
            }
            Self::Internal => kind(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
            Self::Unavailable => {
                kind(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn code_names_are_unique_and_in_snake_case() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }
}
