//! Answers to clients whose request was never read to the end of its head: whole, as bytes.

use std::time::Duration;

use actix_web::body::MessageBody as _;
use uuid::Uuid;

use crate::api::problem::{Code, Problem};

/// What a client is told that took longer than `deadline` over the head of a request.
pub(crate) fn late_head(deadline: Duration) -> Vec<u8> {
    let detail = format!(
        "the head of the request was not there within {} s (HOOKHUB_HEAD_DEADLINE_S)",
        deadline.as_secs_f32()
    );
    whole(&Problem::new(Code::RequestTimeout, detail))
}

/// What a client is told from whose address `most` connections are open, as many as may be.
pub(crate) fn too_many_from_one_address(most: usize) -> Vec<u8> {
    let detail = format!(
        "{most} connections are open from this address, as many as one address may have \
         (HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS); close some first"
    );
    whole(&Problem::new(Code::TooManyConnections, detail))
}

fn whole(problem: &Problem) -> Vec<u8> {
    let id = Uuid::now_v7().to_string();
    let response = problem.response(&id);
    let status = format!("HTTP/1.1 {}", response.status());
    let fields = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    let mut lines: Vec<_> = std::iter::once(status).chain(fields).collect();
    // A problem's document is there as a whole.
    let body = response.into_body().try_into_bytes().unwrap_or_default();
    lines.push(format!("content-length: {}", body.len()));
    lines.push(format!("x-request-id: {id}\r\nconnection: close\r\n\r\n"));
    let mut answer = lines.join("\r\n").into_bytes();
    answer.extend_from_slice(&body);
    answer
}
