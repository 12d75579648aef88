//! The codes of problems, each with its HTTP status and title. They are part of the HTTP contract.

use actix_web::http::StatusCode;
use strum::{EnumString, IntoStaticStr, VariantArray};

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
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
    DeliveryPending,
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
    TenantInUse,
    HeadersTooLarge,
    TooManyConnections,
    /// The tenant published more events than its rate limit allows.
    RateLimited,
    QuotaExceeded,
    Internal,
    /// The database is unavailable, the node is stopping, or another node did not confirm in time.
    Unavailable,
}

impl Code {
    /// Returns the stable name of the code in the API, such as `not_found`.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the title of the problem.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "Invalid JSON",
            Self::InvalidParameter => "Invalid query parameter",
            Self::InvalidHeader => "Invalid header",
            Self::Unauthorized => "Authentication required",
            Self::Forbidden => "Insufficient permissions",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::RequestTimeout => "Request timeout",
            Self::Conflict => "Conflict",
            Self::IdempotencyKeyInUse => "Idempotency key in use",
            Self::TooManySecrets => "Too many signing secrets",
            Self::DeliveryPending => "Pending delivery",
            Self::SubscriptionUnverified => "Unverified subscription",
            Self::NothingToVerify => "Nothing to verify",
            Self::CursorExpired => "Expired cursor",
            Self::PayloadTooLarge => "Payload too large",
            Self::UriTooLong => "URI too long",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::ValidationFailed => "Invalid request",
            Self::IdempotencyKeyReused => "Reused idempotency key",
            Self::TenantInUse => "Tenant in use",
            Self::HeadersTooLarge => "Header fields too large",
            Self::TooManyConnections => "Too many connections",
            Self::RateLimited => "Rate limit exceeded",
            Self::QuotaExceeded => "Quota exceeded",
            Self::Internal => "Internal error",
            Self::Unavailable => "Service unavailable",
        }
    }

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
