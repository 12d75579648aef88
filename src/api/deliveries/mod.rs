//! Deliveries: lists of deliveries and attempts, retries, test events, replays.

mod attempts;
mod of_event;
mod of_subscription;
mod replays;
mod retry;
mod test_event;
pub(super) mod view;

use actix_web::web;

use super::auth::access::{READ, SUBSCRIBE};
use super::route::{Route, get, post};

/// Returns the routes of deliveries, attempts and replays.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/v1/events/{id}/deliveries", READ, web::to(of_event::list)),
        get("/v1/subscriptions/{id}/deliveries", SUBSCRIBE, web::to(of_subscription::list)),
        get("/v1/attempts", READ, web::to(attempts::list)),
        post("/v1/deliveries/{subscription}/{event}/retry", SUBSCRIBE, web::to(retry::retry)),
        post("/v1/subscriptions/{id}/test", SUBSCRIBE, web::to(test_event::send)),
    ];
    routes.extend(replays::routes());
    routes
}
