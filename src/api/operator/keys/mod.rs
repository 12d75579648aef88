//! API keys.

mod create;
mod input;
mod list;
mod revoke;
mod view;

use actix_web::web;

use crate::api::auth::access::ADMIN;
use crate::api::route::{Route, delete, get, post};

/// Returns the routes of keys.
pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/keys", ADMIN, web::to(create::create)),
        get("/v1/keys", ADMIN, web::to(list::list)),
        get("/v1/keys/{id}", ADMIN, web::to(list::get)),
        delete("/v1/keys/{id}", ADMIN, web::to(revoke::revoke)),
    ]
}
