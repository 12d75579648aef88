//! The kinds of problem that clients are told of, each with its code, status and title for good.

use actix_web::http::StatusCode;

/// The kinds of problem; each has its code, status and title for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// A query parameter is unknown or out of range.
    InvalidParameter,
    /// A header cannot be read.
    InvalidHeader,
    /// No key, or a wrong one.
    Unauthorized,
    /// The key may not do this.
    Forbidden,
    /// There is no such thing, or not for this tenant.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// Something else is changing the same thing.
    Conflict,
    /// The first request with this key still runs.
    IdempotencyKeyInUse,
    /// As many signing secrets as may be in force at once.
    TooManySecrets,
    /// The delivery has its first attempt still ahead.
    DeliveryPending,
    /// The receiver has not agreed to being sent anything.
    SubscriptionUnverified,
    /// No handshake is outstanding.
    NothingToVerify,
    /// The cursor is older than what is kept.
    CursorExpired,
    /// Too large.
    PayloadTooLarge,
    /// The request-target is too long.
    UriTooLong,
    /// The body is of a type that is not understood.
    UnsupportedMediaType,
    /// Fields are wrong.
    ValidationFailed,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The tenant has keys or subscriptions.
    TenantInUse,
    /// The header is too large.
    HeadersTooLarge,
    /// As many connections as there may be.
    TooManyConnections,
    /// Over the tenant's rate.
    RateLimited,
    /// As much as the tenant may have.
    QuotaExceeded,
    /// The hub is at fault.
    Internal,
    /// The database is away.
    Unavailable,
}

impl Code {
    /// All of them.
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

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The stable code.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidParameter => "invalid_parameter",
            Self::InvalidHeader => "invalid_header",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::IdempotencyKeyInUse => "idempotency_key_in_use",
            Self::TooManySecrets => "too_many_secrets",
            Self::DeliveryPending => "delivery_pending",
            Self::SubscriptionUnverified => "subscription_unverified",
            Self::NothingToVerify => "nothing_to_verify",
            Self::CursorExpired => "cursor_expired",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ValidationFailed => "validation_failed",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::TenantInUse => "tenant_in_use",
            Self::HeadersTooLarge => "headers_too_large",
            Self::TooManyConnections => "too_many_connections",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// What it is called.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not valid JSON",
            Self::InvalidParameter => "A query parameter is not valid",
            Self::InvalidHeader => "A header is not valid",
            Self::Unauthorized => "A valid key is needed",
            Self::Forbidden => "The key may not do this",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The request took too long",
            Self::Conflict => "Others are changing the same thing",
            Self::IdempotencyKeyInUse => "The first request with this key still runs",
            Self::TooManySecrets => "As many signing secrets as may be in force at once",
            Self::DeliveryPending => "The delivery has its first attempt still ahead",
            Self::SubscriptionUnverified => "The receiver has not agreed yet",
            Self::NothingToVerify => "No handshake is outstanding",
            Self::CursorExpired => "The cursor is older than what is kept",
            Self::PayloadTooLarge => "Too large",
            Self::UriTooLong => "The path and query are too long",
            Self::UnsupportedMediaType => "The content type is not understood",
            Self::ValidationFailed => "The request is not valid",
            Self::IdempotencyKeyReused => "The idempotency key was used for another request",
            Self::TenantInUse => "The tenant has keys or subscriptions",
            Self::HeadersTooLarge => "The header is too large",
            Self::TooManyConnections => "As many connections as there may be",
            Self::RateLimited => "More events than the tenant may publish in a second",
            Self::QuotaExceeded => "The tenant has as much as it may have",
            Self::Internal => "The hub is at fault",
            Self::Unavailable => "Not available at the moment",
        }
    }

    /// The HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson | Self::InvalidParameter | Self::InvalidHeader => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict
            | Self::IdempotencyKeyInUse
            | Self::TooManySecrets
            | Self::DeliveryPending
            | Self::SubscriptionUnverified
            | Self::NothingToVerify
            | Self::TenantInUse => StatusCode::CONFLICT,
            Self::CursorExpired => StatusCode::GONE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ValidationFailed | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyConnections | Self::RateLimited | Self::QuotaExceeded => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_snake_case_and_named_once() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }
}
