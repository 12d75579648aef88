//! WebSocket (RFC 6455): the endpoint and the opening handshake.

use std::fmt::Display;

use actix_http::ResponseBuilder;
use actix_http::ws;
use actix_web::body::BoxBody;
use actix_web::http::Version;
use actix_web::http::header::SEC_WEBSOCKET_KEY;
use actix_web::{HttpRequest, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::resume::{resume_point, start};
use super::websocket_command::Commands;
use super::websocket_session::Session;
use crate::api::auth::context::AuthorizedReader;
use crate::api::http::input::Frames;
use crate::api::http::query::TOKEN;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::worker;
use crate::streaming::Reader;
use crate::streaming::presence::Transport;
use crate::streaming::resume::ResumePoint;

/// The bytes that a message may have besides the data of the event that it publishes.
const ENVELOPE_BYTES: usize = 16 << 10;

/// `GET /v1/ws`: opens a WebSocket that sends the events that match `types`, and accepts commands.
///
/// The stream begins at the client's resume point, or with new events if the client states none.
pub(super) async fn websocket(
    AuthorizedReader(context, access, frames): AuthorizedReader<Frames>,
) -> ApiResult {
    let query = frames.parameters.known(&["types", "after", "last_event_id", TOKEN])?;
    let filter = access.filter(&query)?;
    let point = resume_point(&context.request, &query)?.unwrap_or(ResumePoint::Now);
    let response = handshake(&context.request)?;
    let start = start(&context.api.streams, filter, &point).await?;
    let reader = Reader::new(&worker(&context.request)?, start, Transport::WebSocket);
    let reader = reader.count_as_connection(Transport::WebSocket, context.owner())?;
    let commands = Commands { access, subscription: None, api: context.api };
    open(response, frames.payload, reader, commands)
}

/// Checks the opening handshake (RFC 6455, 4.2); else 400. [`open`] completes the response.
pub(crate) fn handshake(request: &HttpRequest) -> ApiResult<ResponseBuilder> {
    let refuse = |refused: &dyn Display| {
        let fix = "use a WebSocket client (RFC 6455, version 13)";
        Problem::new(Code::InvalidHeader, format!("{refused}; {fix}"))
    };
    if request.version() < Version::HTTP_11 {
        return Err(refuse(&"HTTP/1.0 does not support WebSocket"));
    }
    let response = ws::handshake(request.head()).map_err(|refused| refuse(&refused))?;
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| STANDARD.decode(key));
    match key {
        Some(Ok(key)) if key.len() == 16 => Ok(response),
        _ => Err(refuse(&"Sec-WebSocket-Key is not the base64 of 16 bytes")),
    }
}

/// Completes the result of [`handshake`] with a session, which ends when the stream token expires. `payload`: the frames
/// that the client sends.
pub(crate) fn open(
    mut response: ResponseBuilder,
    payload: web::Payload,
    reader: Reader,
    commands: Commands,
) -> ApiResult {
    if let Some(expires) = commands.access.token_expires_at() {
        reader.expire_at(expires);
    }
    let quotas = commands.api.quotas.quotas_of(&commands.access.caller.tenant);
    let max_bytes = usize::try_from(quotas.event_bytes).unwrap_or(usize::MAX);
    let session = Session::new(reader, payload, commands, max_bytes.saturating_add(ENVELOPE_BYTES));
    let response = response.message_body(BoxBody::new(session)).map_err(|error| {
        Problem::new(Code::Internal, format!("the handshake has no response: {error}"))
    })?;
    Ok(response.into())
}
