//! Pull subscriptions: reading events by poll, stream and WebSocket, and moving the cursor that the hub keeps.

pub(crate) mod cursor;
mod find;
mod read;

use actix_web::middleware::from_fn;
use actix_web::web;

use crate::api::auth::access::{READ, STREAM, SUBSCRIBE};
use crate::api::route::{Route, get, post};
use crate::api::streams::sse::reconnect_when_unavailable;

/// Returns the routes of pull subscriptions.
pub(super) fn routes() -> Vec<Route> {
    let stream = web::to(read::stream).wrap(from_fn(reconnect_when_unavailable));
    vec![
        get("/v1/subscriptions/{id}/events", READ, web::to(read::poll)),
        get("/v1/subscriptions/{id}/stream", STREAM, stream),
        get("/v1/subscriptions/{id}/ws", STREAM, web::to(read::websocket)),
        post("/v1/subscriptions/{id}/ack", SUBSCRIBE, web::to(cursor::acknowledge)),
        post("/v1/subscriptions/{id}/seek", SUBSCRIBE, web::to(cursor::seek)),
    ]
}
