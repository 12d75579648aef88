//! The response headers that show a rate limit: draft-ietf-httpapi-ratelimit-headers-06, section 3.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::HeaderName;

use crate::domain::access::token_bucket::RateLimitStatus;

/// The limit, the part of it that is left now, and the seconds until it is whole again or, after a refusal, until a retry
/// may succeed.
pub(crate) const FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

pub(crate) fn insert_rate_limit(response: &mut HttpResponseBuilder, status: RateLimitStatus) {
    let RateLimitStatus { limit, remaining, reset_s } = status;
    for field in FIELDS.into_iter().zip([limit, remaining, reset_s]) {
        response.insert_header(field);
    }
}
