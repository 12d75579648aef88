//! Pull subscriptions: reading events by poll, stream and WebSocket, and moving the cursor that the hub keeps.

use actix_web::middleware::from_fn;
use actix_web::web;

use super::pull_cursor::{self, find_pull_subscription, not_a_pull_subscription};
use crate::api::auth::context::{Authorized, Context};
use crate::api::auth::read_access::ReadAccess;
use crate::api::events::poll;
use crate::api::http::input::{Frames, Parameters};
use crate::api::problem::ApiResult;
use crate::api::route::{READ, Route, STREAM, SUBSCRIBE, get, post};
use crate::api::state::worker;
use crate::api::streams::resume::{last_event_id, named};
use crate::api::streams::sse::{reconnect_when_unavailable, server_sent_events};
use crate::api::streams::websocket::{handshake, open};
use crate::api::streams::websocket_command::Commands;
use crate::domain::position::Position;
use crate::streaming::presence::Transport;
use crate::streaming::{Reader, ReaderStart};

pub(super) fn routes() -> Vec<Route> {
    let stream = web::to(stream).wrap(from_fn(reconnect_when_unavailable));
    vec![
        get("/v1/subscriptions/{id}/events", READ, web::to(poll)),
        get("/v1/subscriptions/{id}/stream", STREAM, stream),
        get("/v1/subscriptions/{id}/ws", STREAM, web::to(websocket)),
        post("/v1/subscriptions/{id}/ack", SUBSCRIBE, web::to(pull_cursor::acknowledge)),
        post("/v1/subscriptions/{id}/seek", SUBSCRIBE, web::to(pull_cursor::seek)),
    ]
}

/// `GET /v1/subscriptions/{id}/events`: the next unacknowledged events, at once or after waiting for one.
async fn poll(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
    let query = parameters.known(&["limit", "wait"])?;
    let (limit, wait) = (usize::from(query.limit()?), poll::wait(&query)?);
    let start = reader_start(&context, &id, None).await?;
    let reader = Reader::new(&worker(&context.request)?, start, Transport::LongPoll);
    poll::respond(reader, &query, limit, wait.map(|wait| (wait, context.owner()))).await
}

/// `GET /v1/subscriptions/{id}/stream`: streams the unacknowledged events as server-sent events.
async fn stream(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
    let query = parameters.known(&["last_event_id", "named"])?;
    let named = named(&query)?;
    let seen = last_event_id(&context.request, &query)?;
    let start = reader_start(&context, &id, seen).await?;
    let reader = Reader::new(&worker(&context.request)?, start, Transport::Sse);
    let reader = reader.count_as_connection(Transport::Sse, context.owner())?;
    Ok(server_sent_events(&context.request, reader, named))
}

/// `GET /v1/subscriptions/{id}/ws`: opens a WebSocket that sends the unacknowledged events and accepts commands.
async fn websocket(
    Authorized(context, frames): Authorized<Frames>,
    id: web::Path<String>,
) -> ApiResult {
    let query = frames.parameters.known(&["last_event_id"])?;
    let seen = last_event_id(&context.request, &query)?;
    let start = reader_start(&context, &id, seen).await?;
    let response = handshake(&context.request)?;
    let subscription = start.filter.subscription_id();
    let reader = Reader::new(&worker(&context.request)?, start, Transport::WebSocket);
    let reader = reader.count_as_connection(Transport::WebSocket, context.owner())?;
    let access = ReadAccess::with_key(context.caller);
    let commands = Commands { access, subscription, api: context.api };
    open(response, frames.payload, reader, commands)
}

/// Starts after the cursor, or after `seen`, the last event that the client received, if that is newer. A `seen` beyond
/// this node's head is ignored.
async fn reader_start(
    context: &Context,
    id: &str,
    seen: Option<Position>,
) -> ApiResult<ReaderStart> {
    let Context { api, caller, .. } = context;
    let id = find_pull_subscription(context, id).await?.id;
    let cursor = api.store.select_pull_cursor(id).await?.ok_or_else(not_a_pull_subscription)?;
    let within = caller.key.event_types.clone();
    let filter = api.streams.filter_of_subscription(&caller.tenant, id, within).await?;
    let filter = filter.ok_or_else(not_a_pull_subscription)?;
    // Such an id is invalid, or this node lags. The events after the cursor are then served again.
    let seen = seen.filter(|seen| *seen <= api.log.head());
    let after = cursor.position.max(seen.unwrap_or_default());
    Ok(ReaderStart { filter, after, gap: None })
}
