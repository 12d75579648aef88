//! Events: publishing, reading, and why an event went where it did.

pub(super) mod append;
mod explain;
pub(super) mod find;
mod list;
pub(super) mod poll;
mod publish;
pub(super) mod publish_input;

use actix_web::web;

use super::auth::access::{PUBLISH, READ};
use super::route::{Route, get, post};

/// Returns the routes of events.
pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/events", PUBLISH, web::to(publish::publish)),
        get("/v1/events", READ, web::to(list::list)),
        get("/v1/events/{id}", READ, web::to(find::get)),
        get("/v1/events/{id}/explain", READ, web::to(explain::explain)),
    ]
}
