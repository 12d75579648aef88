//! Streams of events: Server-Sent Events and WebSocket, their tokens and connections.

mod connections;
pub(super) mod resume;
pub(super) mod sse;
mod tokens;
pub(super) mod websocket;
pub(super) mod websocket_command;
mod websocket_session;

use actix_web::middleware::from_fn;
use actix_web::web;

use super::route::{Route, STREAM, get, post, to_completion};

pub(super) fn routes() -> Vec<Route> {
    let stream = web::to(sse::stream).wrap(from_fn(sse::reconnect_when_unavailable));
    vec![
        get("/v1/stream", STREAM, stream),
        get("/v1/ws", STREAM, web::to(websocket::websocket)),
        post("/v1/stream-tokens", STREAM, to_completion(tokens::create)),
        get("/v1/connections", STREAM, web::to(connections::list)),
    ]
}
