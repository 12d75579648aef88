//! `GET /openapi.json`.

use actix_web::http::header::{CACHE_CONTROL, ETAG, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, web};

use super::document::Document;
use crate::api::state::Api;

/// Caches may store the document but must revalidate it: it changes with the version of the hub.
const CACHE: &str = "public, no-cache";

/// `GET /openapi.json`: returns the OpenAPI document. 304 if the client has it already (RFC 9110, 13.1.2).
pub(super) async fn serve(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let Document { text, tag } = &api.document;
    let is_known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(tag)),
        Err(_unreadable) => false,
    };
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, tag.to_string())).insert_header((CACHE_CONTROL, CACHE));
    if is_known {
        return response.finish();
    }
    response.content_type("application/json").body(text.clone())
}
