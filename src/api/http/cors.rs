//! CORS: the origins whose pages may call the API from a browser (WHATWG Fetch, 3.3).

use actix_cors::Cors;
use actix_web::http::{Method, header};

use super::rate_limit_headers;

/// How long a browser may cache a preflight response, in seconds.
const PREFLIGHT_MAX_AGE_S: usize = 3_600;

/// Allows pages of these origins to call the API; `*`: every origin. The hub reads no cookies, so a page can do no more
/// than its key or token allows.
pub(crate) fn allow_origins(origins: &[String]) -> Cors {
    let hub_headers = ["hookhub-tenant", "idempotency-key", "last-event-id"];
    let cors = Cors::default()
        .allowed_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::CACHE_CONTROL])
        .allowed_headers(hub_headers)
        .expose_headers(["link", "location", "retry-after", "x-request-id", "idempotent-replayed"])
        .expose_headers(rate_limit_headers::FIELDS)
        .max_age(PREFLIGHT_MAX_AGE_S);
    origins.iter().fold(cors, |cors, origin| match origin.as_str() {
        "*" => cors.allow_any_origin().send_wildcard(),
        origin => cors.allowed_origin(origin),
    })
}
