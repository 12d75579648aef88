//! Short and long poll: a batch of events and the cursor to go on from, at once or as soon as there is one.

use std::time::Duration;

use actix_web::HttpResponse;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::api::http::query::{Query, invalid};
use crate::api::problem::{Code, Problem};
use crate::domain::event::Event;
use crate::domain::position::Position;
use crate::streaming::presence::{ConnectionOwner, Transport};
use crate::streaming::resume::{GapReason, ResumePoint, Resumption};
use crate::streaming::{Reader, StreamEnd, Streams};

/// The longest that a poll waits, in seconds.
const LONGEST_WAIT_S: u64 = 60;

/// `wait`: how long an answer waits for a first event; `None` not at all.
pub(crate) fn wait(query: &Query) -> Result<Option<Duration>, Problem> {
    let Some(text) = query.text("wait") else { return Ok(None) };
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(seconds @ 1..=LONGEST_WAIT_S) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(invalid(
            "wait",
            &format!("expected a whole number of seconds from 0 to {LONGEST_WAIT_S}"),
        )),
    }
}

/// `after`: an event id, `now`, `earliest`, or a time. 410 when what came directly after it is no longer kept.
pub(crate) async fn cursor(query: &Query, streams: &Streams) -> Result<Option<Position>, Problem> {
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
            "this event id is above all events of the log; go on with after=earliest or after=now",
        )),
    }
}

/// Answers with what the reader finds; with `wait` it waits for a first event, counted as a connection of its owner.
pub(crate) async fn answer(
    reader: Reader,
    query: &Query,
    limit: usize,
    wait: Option<(Duration, ConnectionOwner)>,
) -> Result<HttpResponse, Problem> {
    let (mut reader, until) = match wait {
        None => (reader, None),
        Some((wait, owner)) => {
            (reader.connect(Transport::LongPoll, owner)?, Some(Instant::now() + wait))
        }
    };
    let gathered = reader.collect_events(limit, until).await?;
    if gathered.end == Some(StreamEnd::Revoked) {
        return Err(Problem::new(Code::Unauthorized, "this key was revoked"));
    }
    let data = gathered.events.iter().map(|frame| as_json(frame.event()));
    let data = data.collect::<Result<Vec<_>, _>>()?;
    Ok(query.page(&data, Some(&gathered.cursor.to_string()), gathered.has_more))
}

/// An event as JSON within a list: the very bytes of its body.
pub(crate) fn as_json(event: &Event) -> Result<&RawValue, Problem> {
    serde_json::from_slice(&event.body).map_err(|error| {
        Problem::new(Code::Internal, format!("event {} cannot be shown: {error}", event.position))
    })
}
