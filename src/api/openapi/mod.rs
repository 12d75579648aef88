//! The API's own description: an OpenAPI 3.1 document, written by resource in the JSON files here and joined at start.

pub(super) mod document;
mod join;
mod page;
#[cfg(test)]
mod tests;

use actix_web::web;

use super::route::{PUBLIC, Route, get};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/openapi.json", PUBLIC, web::to(page::document)),
        get("/docs", PUBLIC, web::to(page::page)),
        get("/docs/{file}", PUBLIC, web::to(page::file)),
    ]
}
