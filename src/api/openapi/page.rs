//! Serves the document as JSON, and as a page for people, rendered by the Swagger UI that this program contains.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, Header as _, IfNoneMatch,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use super::document::Document;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;

const PAGE: &str = include_str!("page.html");
/// The files of Swagger UI that the page uses.
const FILES: [&str; 5] = [
    "favicon-32x32.png",
    "swagger-initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];
/// The page loads only from this hub, and the document cannot make it run a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The files change only with the version of the hub.
const PAGE_CACHE_CONTROL: &str = "public, max-age=3600";
/// Caches may store the document but must revalidate it: it changes with the version of the hub.
const DOCUMENT_CACHE_CONTROL: &str = "public, no-cache";

/// `GET /openapi.json`: 304 if `If-None-Match` names its current entity tag (RFC 9110, 13.1.2).
pub(super) async fn document(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let Document { text, tag } = &api.document;
    let is_known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(tag)),
        Err(_unreadable) => false,
    };
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag.to_string()))
        .insert_header((CACHE_CONTROL, DOCUMENT_CACHE_CONTROL));
    if is_known {
        return response.finish();
    }
    response.content_type("application/json").body(text.clone())
}

/// `GET /docs`: the page that renders the OpenAPI document.
pub(super) async fn page() -> HttpResponse {
    page_response("text/html; charset=utf-8").body(PAGE)
}

/// `GET /docs/{file}`: a file of Swagger UI. 404 for a file that the page does not use.
pub(super) async fn file(path: web::Path<String>) -> ApiResult {
    let name = FILES.into_iter().find(|name| *name == *path);
    let name = name.ok_or_else(|| Problem::not_found("file"))?;
    let file = utoipa_swagger_ui::serve(name, Arc::new(config()))
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?
        .ok_or_else(|| Problem::not_found("file"))?;
    let mut response = page_response(&file.content_type);
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.body(match file.bytes {
        Cow::Borrowed(embedded) => Bytes::from_static(embedded),
        Cow::Owned(made) => made.into(),
    }))
}

fn config() -> Config<'static> {
    Config::from("openapi.json")
        .validator_url("none")
        .deep_linking(true)
        .display_operation_id(false)
        .default_models_expand_depth(0)
        .doc_expansion("list")
        .filter(true)
}

/// Starts a 200 response with this content type and with headers for caching and browser security.
fn page_response(content_type: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((CACHE_CONTROL, PAGE_CACHE_CONTROL))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response
}
