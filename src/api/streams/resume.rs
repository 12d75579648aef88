//! The point in the log where a stream begins.

use actix_web::HttpRequest;

use crate::api::http::headers::single_header;
use crate::api::http::query::{Query, invalid};
use crate::api::problem::ApiResult;
use crate::domain::position::Position;
use crate::streaming::resume::{ResumePoint, Resumption, gap_event};
use crate::streaming::{Filter, ReaderStart, Streams};

const LAST_EVENT_ID: &str = "last-event-id";

/// The query parameter `named`, by default false: whether each server-sent event has its type in the field `event:`.
pub(crate) fn named(query: &Query) -> ApiResult<bool> {
    match query.text("named") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid("named", "expected true or false")),
    }
}

/// The point after which the client wants to start: `Last-Event-ID` (WHATWG HTML, 9.2.4), else the query parameter
/// `last_event_id`, else `after`.
pub(super) fn resume_point(request: &HttpRequest, query: &Query) -> ApiResult<Option<ResumePoint>> {
    let last = last_id(request, query)?;
    let after = query.text("after").filter(|after| !after.is_empty());
    Ok(last.as_deref().or(after).map(ResumePoint::parse))
}

/// The last event that the client of a pull subscription has received, from the header or the query. `None` without an
/// id or for an invalid one.
pub(crate) fn last_event_id(request: &HttpRequest, query: &Query) -> ApiResult<Option<Position>> {
    Ok(last_id(request, query)?.and_then(|id| id.parse().ok()))
}

/// The header `Last-Event-ID`, else the query parameter `last_event_id`. An empty text counts as missing.
fn last_id(request: &HttpRequest, query: &Query) -> ApiResult<Option<String>> {
    let header = single_header(request, LAST_EVENT_ID)?;
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parameter = query.text("last_event_id").map(str::to_owned);
    Ok(header.into_iter().chain(parameter).find(|id| !id.is_empty()))
}

/// Where a reader starts. If events after the point have expired, or the point is unknown or unreadable: at the oldest
/// retained event, after a gap event.
pub(super) async fn start(
    streams: &Streams,
    filter: Filter,
    point: &ResumePoint,
) -> ApiResult<ReaderStart> {
    Ok(match streams.resolve(point).await? {
        Resumption::At(after) => ReaderStart { filter, after, gap: None },
        Resumption::Gone { reason, earliest } => {
            let gap = gap_event(&filter.tenant, point, reason, earliest);
            ReaderStart { filter, after: gap.position, gap: Some(gap) }
        }
    })
}
