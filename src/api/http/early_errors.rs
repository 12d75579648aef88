//! Responses to connections that the server closes before a request head is complete, as raw bytes.

use std::time::Duration;

use actix_web::body::MessageBody as _;
use uuid::Uuid;

use crate::api::problem::{Code, Problem};

/// Returns the bytes of a 408 response to a client that did not send a request head within `deadline`.
pub(crate) fn late_head(deadline: Duration) -> Vec<u8> {
    let detail = format!(
        "the request head did not arrive within {} s (HOOKHUB_HEAD_DEADLINE_S)",
        deadline.as_secs_f32()
    );
    response_bytes(&Problem::new(Code::RequestTimeout, detail))
}

/// Returns the bytes of a 429 response to a client whose network already has `limit` open connections.
pub(crate) fn too_many_from_one_address(limit: usize) -> Vec<u8> {
    let detail = format!(
        "this address has {limit} open connections, the limit for one address \
         (HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS); close some and retry"
    );
    response_bytes(&Problem::new(Code::TooManyConnections, detail))
}

/// Returns the bytes of a complete HTTP/1.1 response with this problem. Its headers close the connection.
fn response_bytes(problem: &Problem) -> Vec<u8> {
    let id = Uuid::now_v7().to_string();
    let response = problem.response(&id);
    let status = format!("HTTP/1.1 {}", response.status());
    let fields = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    let mut lines: Vec<_> = std::iter::once(status).chain(fields).collect();
    // The body of a problem is in memory, never a stream.
    let body = response.into_body().try_into_bytes().unwrap_or_default();
    lines.push(format!("content-length: {}", body.len()));
    lines.push(format!("x-request-id: {id}\r\nconnection: close\r\n\r\n"));
    let mut bytes = lines.join("\r\n").into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
