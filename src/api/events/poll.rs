//! Short and long polls: a batch of events and the next cursor, at once or as soon as an event matches.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::api::http::query::{Query, invalid};
use crate::api::problem::{ApiResult, Code, Problem};
use crate::domain::event::Event;
use crate::domain::position::Position;
use crate::streaming::presence::{ConnectionOwner, Transport};
use crate::streaming::resume::{GapReason, ResumePoint, Resumption};
use crate::streaming::{Reader, StreamEnd, Streams};

const MAX_WAIT_S: u64 = 60;

/// Parses the query parameter `wait`, 0 to 60 whole seconds: how long a poll waits for its first event. `None` for 0 or
/// without it.
pub(crate) fn wait(query: &Query) -> ApiResult<Option<Duration>> {
    let Some(text) = query.text("wait") else { return Ok(None) };
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(seconds @ 1..=MAX_WAIT_S) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(invalid(
            "wait",
            &format!("expected a whole number of seconds from 0 to {MAX_WAIT_S}"),
        )),
    }
}

/// Parses the query parameter `after`: an event id, `now`, `earliest` or a time. 400 for an invalid value or an event id
/// after the newest, 410 if events after the position have expired.
pub(crate) async fn cursor(query: &Query, streams: &Streams) -> ApiResult<Option<Position>> {
    let Some(text) = query.text("after") else { return Ok(None) };
    let point = ResumePoint::parse(text);
    if matches!(point, ResumePoint::Unreadable(_)) {
        return Err(invalid("after", "expected an event id, now, earliest, or an RFC 3339 time"));
    }
    match streams.resolve(&point).await? {
        Resumption::At(position) => Ok(Some(position)),
        Resumption::Gone { reason: GapReason::Expired, earliest } => {
            Err(Problem::cursor_expired(earliest))
        }
        Resumption::Gone { .. } => Err(invalid(
            "after",
            "this event id is newer than the newest event; continue with after=earliest or after=now",
        )),
    }
}

/// Responds with up to `limit` events and the next cursor. `wait`: the time to wait for the first event, and the owner
/// under which the connection limits count the poll. 429 if a limit is reached, 401 if the key is revoked meanwhile.
pub(crate) async fn respond(
    reader: Reader,
    query: &Query,
    limit: usize,
    wait: Option<(Duration, ConnectionOwner)>,
) -> ApiResult {
    let (mut reader, until) = match wait {
        None => (reader, None),
        Some((wait, owner)) => {
            (reader.count_as_connection(Transport::LongPoll, owner)?, Some(Instant::now() + wait))
        }
    };
    let gathered = reader.collect_events(limit, until).await?;
    if gathered.end == Some(StreamEnd::Revoked) {
        return Err(Problem::new(Code::Unauthorized, "this key is revoked"));
    }
    let data = gathered.events.iter().map(|frame| as_json(frame.event()));
    let data = data.collect::<Result<Vec<_>, _>>()?;
    Ok(query.list_until(&data, Some(&gathered.cursor.to_string()), gathered.has_more))
}

/// The stored JSON of an event, not copied. 500 if it is not valid JSON.
pub(crate) fn as_json(event: &Event) -> ApiResult<&RawValue> {
    serde_json::from_slice(&event.body).map_err(|error| {
        let detail = format!("the stored event {} is not valid JSON: {error}", event.position);
        Problem::new(Code::Internal, detail)
    })
}
