//! The point in the log where a stream begins.

use actix_web::HttpRequest;

use crate::api::http::headers::single_header;
use crate::api::http::query::{Query, invalid};
use crate::api::problem::ApiResult;
use crate::domain::position::Position;
use crate::streaming::resume::{ResumePoint, Resumption, gap_event};
use crate::streaming::{Filter, ReaderStart, Streams};

const LAST_EVENT_ID: &str = "last-event-id";

/// `named`: whether each Server-Sent Event has its type in `event:`.
pub(crate) fn named(query: &Query) -> ApiResult<bool> {
    match query.text("named") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid("named", "expected true or false")),
    }
}

/// The point that a client names: the header `Last-Event-ID` (WHATWG HTML, 9.2.4), else `last_event_id`, else `after`.
pub(super) fn resume_point(request: &HttpRequest, query: &Query) -> ApiResult<Option<ResumePoint>> {
    let last = last_id(request, query)?;
    let after = query.text("after").filter(|after| !after.is_empty());
    Ok(last.as_deref().or(after).map(ResumePoint::parse))
}

/// The last event that a client of a pull subscription has seen.
pub(crate) fn last_event_id(request: &HttpRequest, query: &Query) -> ApiResult<Option<Position>> {
    Ok(last_id(request, query)?.and_then(|id| id.parse().ok()))
}

fn last_id(request: &HttpRequest, query: &Query) -> ApiResult<Option<String>> {
    let header = single_header(request, LAST_EVENT_ID)?;
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parameter = query.text("last_event_id").map(str::to_owned);
    Ok(header.into_iter().chain(parameter).find(|id| !id.is_empty()))
}

/// The start of a reader at `point`. If events after the point have expired, the reader starts at the oldest retained
/// event, with a gap event before it.
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
