//! The API's own description: OpenAPI 3.1, written by resource in the JSON files here and joined once at start.

pub(crate) mod document;
mod join;
pub(crate) mod page;
#[cfg(test)]
mod tests;

use actix_web::http::header::{CACHE_CONTROL, ETAG, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, web};

use self::document::Document;
use super::state::Api;

/// Caches may keep it, and ask each time whether it is still the same: another version of the hub has another one.
const KEPT: &str = "public, no-cache";

/// `GET /openapi.json`: 304 for those who have it already (RFC 9110, 13.1.2).
pub(crate) async fn serve(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let Document { text, tag } = &api.document;
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(tag)),
        Err(_unreadable) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, tag.to_string())).insert_header((CACHE_CONTROL, KEPT));
    if known {
        return response.finish();
    }
    response.content_type("application/json").body(text.clone())
}
