//! The points in the log that fields name: `from` of a new subscription, `since` of a replay.

use crate::api::http::fields::Fields;
use crate::domain::position::Position;
use crate::streaming::resume::ResumePoint;

/// Takes `from` (`now`, `earliest`, an event id or a time). Returns the position just before the first event to deliver;
/// `None` for `now` and without the field. An invalid value, such as an id after `head`, is recorded as an error.
pub(super) fn starts_after(fields: &mut Fields, head: Position) -> Option<Position> {
    match ResumePoint::parse(&fields.text("from", 64).value()?) {
        ResumePoint::Now => None,
        point => before_point(fields, "from", &point, head),
    }
}

/// The position just before the first event at or after `point`. `None` for `now`, an unreadable point, or an id after
/// `head`: each is recorded as an error of the field `name`.
pub(crate) fn before_point(
    fields: &mut Fields,
    name: &'static str,
    point: &ResumePoint,
    head: Position,
) -> Option<Position> {
    match point {
        ResumePoint::Earliest => Some(Position::START),
        ResumePoint::After(event) if *event <= head => Some(event.previous()),
        ResumePoint::After(_) => {
            fields.fault(name, "this event id is newer than the newest event");
            None
        }
        ResumePoint::Since(time) => Some(Position::before_time(*time)),
        ResumePoint::Now | ResumePoint::Unreadable(_) => {
            fields.fault(name, "expected earliest, an event id, or an RFC 3339 time");
            None
        }
    }
}
