//! Tenants: their quotas and their use of them.

mod delete;
mod get;
mod input;
mod update;
mod view;

use actix_web::web;

use crate::api::auth::access::ADMIN;
use crate::api::route::{Route, delete, get, patch, put};

/// Returns the routes of tenants.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/v1/tenants", ADMIN, web::to(get::list)),
        get("/v1/tenants/{name}", ADMIN, web::to(get::get)),
        put("/v1/tenants/{name}", ADMIN, web::to(update::put)),
        patch("/v1/tenants/{name}", ADMIN, web::to(update::patch)),
        delete("/v1/tenants/{name}", ADMIN, web::to(delete::delete)),
    ]
}
