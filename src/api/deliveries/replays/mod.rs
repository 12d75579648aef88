//! Replays: delivering a stretch of the log to a subscription again.

mod cancel;
mod count;
mod create;
mod find;
mod list;
mod view;

use actix_web::web;

use crate::api::auth::access::SUBSCRIBE;
use crate::api::route::{Route, get, post};

/// Returns the routes of replays.
pub(super) fn routes() -> Vec<Route> {
    let one = "/v1/subscriptions/{id}/replays/{replay}";
    vec![
        post("/v1/subscriptions/{id}/replay", SUBSCRIBE, web::to(create::create)),
        get("/v1/subscriptions/{id}/replays", SUBSCRIBE, web::to(list::list)),
        get(one, SUBSCRIBE, web::to(find::get)),
        post("/v1/subscriptions/{id}/replays/{replay}/cancel", SUBSCRIBE, web::to(cancel::cancel)),
    ]
}
