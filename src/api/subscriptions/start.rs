//! The points in the log that fields name: `from` of a new subscription, `since` of a replay.

use crate::api::http::fields::Fields;
use crate::domain::position::Position;
use crate::streaming::resume::Point;

/// `from`: `now`, `earliest`, an event id, or a time. Delivery starts with the first event at or after this point.
pub(super) fn starts_after(fields: &mut Fields, head: Position) -> Option<Position> {
    match Point::read(&fields.text("from", 64).value()?) {
        Point::Now => None,
        point => before_point(fields, "from", &point, head),
    }
}

/// The position just before the first event at or after `point`, which the field `name` holds.
pub(crate) fn before_point(
    fields: &mut Fields,
    name: &'static str,
    point: &Point,
    head: Position,
) -> Option<Position> {
    match point {
        Point::Earliest => Some(Position::START),
        Point::After(event) if *event <= head => Some(event.previous()),
        Point::After(_) => {
            fields.fault(name, "this event id is newer than the newest event");
            None
        }
        Point::Since(time) => Some(Position::before_time(*time)),
        Point::Now | Point::Unreadable(_) => {
            fields.fault(name, "expected earliest, an event id, or an RFC 3339 time");
            None
        }
    }
}
