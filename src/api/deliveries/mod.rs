//! Deliveries: lists of deliveries and attempts, retries, test events, replays.

mod list;
mod replay_count;
mod replays;
mod retry;
mod test_event;
pub(super) mod view;

use actix_web::web;

use super::route::{READ, Route, SUBSCRIBE, get, post, to_completion};

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/v1/events/{id}/deliveries", READ, web::to(list::of_event)),
        get("/v1/subscriptions/{id}/deliveries", SUBSCRIBE, web::to(list::of_subscription)),
        get("/v1/attempts", READ, web::to(list::attempts)),
        post("/v1/deliveries/{subscription}/{event}/retry", SUBSCRIBE, to_completion(retry::retry)),
        post("/v1/subscriptions/{id}/test", SUBSCRIBE, to_completion(test_event::send)),
    ];
    routes.extend(replays::routes());
    routes
}
