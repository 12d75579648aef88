//! Events: publishing, reading, and explaining where an event went.

mod explain;
pub(super) mod poll;
pub(super) mod publish;
pub(super) mod publish_input;
pub(super) mod read;

use actix_web::web;

use super::route::{PUBLISH, READ, Route, get, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/events", PUBLISH, web::to(publish::publish)),
        get("/v1/events", READ, web::to(read::list)),
        get("/v1/events/{id}", READ, web::to(read::get)),
        get("/v1/events/{id}/explain", READ, web::to(explain::explain)),
    ]
}
