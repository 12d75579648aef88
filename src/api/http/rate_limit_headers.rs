//! The response headers that show a rate limit: draft-ietf-httpapi-ratelimit-headers-06, section 3.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::HeaderName;

use crate::domain::access::token_bucket::RateLimitStatus;

/// The limit per second, the events that may still come now, and the seconds until the limit is whole again.
pub(crate) const FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

/// Adds the rate limit headers to `response`: the limit, the remaining tokens, and the seconds until the reset.
pub(crate) fn insert_rate_limit(response: &mut HttpResponseBuilder, status: RateLimitStatus) {
    let RateLimitStatus { limit, remaining, reset_s } = status;
    for field in FIELDS.into_iter().zip([limit, remaining, reset_s]) {
        response.insert_header(field);
    }
}
