//! Which pages of other origins may call the API from a browser (WHATWG Fetch, 3.3).

use actix_cors::Cors;
use actix_web::http::{Method, header};

use super::rate_limit_headers;

/// How long a browser may keep the answer to a preflight, in seconds.
const KEEP_S: usize = 3_600;

/// Middleware that lets pages of `origins` in; `*` is any. No cookie is ever read, so that none of them can act with
/// more than the key or token it has.
pub(crate) fn allow_origins(origins: &[String]) -> Cors {
    let own = ["hookhub-tenant", "idempotency-key", "last-event-id"];
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
        .allowed_headers(own)
        .expose_headers(["link", "location", "retry-after", "x-request-id", "idempotent-replayed"])
        .expose_headers(rate_limit_headers::FIELDS)
        .max_age(KEEP_S);
    origins.iter().fold(cors, |cors, origin| match origin.as_str() {
        "*" => cors.allow_any_origin().send_wildcard(),
        origin => cors.allowed_origin(origin),
    })
}
