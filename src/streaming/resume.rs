//! Where a client goes on: the place it names, if what came after it is still kept.

use bytes::Bytes;
use serde_json::json;

use super::worker::Streams;
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::domain::subscription::gap::GAP;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// The longest part of a resume point that is repeated to its client.
const LONGEST_REPEATED: usize = 64;

/// What a client says of where it wants to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    /// At the end of the log.
    Now,
    /// At its beginning.
    Earliest,
    /// After this event.
    After(Position),
    /// With the first event from this time on.
    Since(UnixMillis),
    /// It cannot be read.
    Unreadable(String),
}

impl Point {
    /// Reads `now`, `earliest`, an event id or an RFC 3339 time.
    pub(crate) fn read(text: &str) -> Self {
        match (text, text.parse::<Position>(), UnixMillis::parse(text)) {
            ("now", ..) => Self::Now,
            ("earliest", ..) => Self::Earliest,
            (_, Ok(position), _) => Self::After(position),
            (_, _, Some(time)) => Self::Since(time),
            _ => Self::Unreadable(text.chars().take(LONGEST_REPEATED).collect()),
        }
    }
}

/// Why a client cannot go on exactly where it wants to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// This log has no such place.
    Unknown,
    /// What came directly after it is no longer kept.
    Expired,
}

/// Where a client goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// After this place, with nothing lost.
    At(Position),
    /// Not where it wants; the oldest kept event is at `earliest`, if there is one.
    Gone {
        /// Why.
        reason: Reason,
        /// The oldest kept event.
        earliest: Option<Position>,
    },
}

impl Streams {
    /// Finds the place that a client names.
    pub(crate) async fn find(&self, point: &Point) -> Result<Found, StoreError> {
        match point {
            Point::Now => Ok(Found::At(self.log.head())),
            Point::Earliest => Ok(Found::At(Position::START)),
            Point::Since(time) => {
                let position = Position::before_time(*time);
                let oldest = self.store.oldest().await?.unwrap_or_default();
                let position = if position < oldest { Position::START } else { position };
                Ok(Found::At(position.min(self.log.head())))
            }
            Point::After(position)
                if *position == Position::START || self.log.is_recent(*position) =>
            {
                Ok(Found::At(*position))
            }
            Point::After(position) => {
                let reason = if *position < self.store.select_expired_up_to().await? {
                    Reason::Expired
                } else if *position > self.store.head().await? {
                    // Not by this node's head: another may have appended what this one has not read yet.
                    Reason::Unknown
                } else {
                    return Ok(Found::At(*position));
                };
                Ok(Found::Gone { reason, earliest: self.store.oldest().await? })
            }
            Point::Unreadable(_) => {
                Ok(Found::Gone { reason: Reason::Unknown, earliest: self.store.oldest().await? })
            }
        }
    }
}

/// Tells a stream that what it asked for is not there, and that it goes on with the oldest kept event.
pub(crate) fn gap_event(
    tenant: &str,
    point: &Point,
    reason: Reason,
    earliest: Option<Position>,
) -> Event {
    let requested = match point {
        Point::After(position) => position.to_string(),
        Point::Unreadable(text) => text.clone(),
        Point::Now | Point::Earliest | Point::Since(_) => String::new(),
    };
    let reason = match reason {
        Reason::Unknown => "unknown",
        Reason::Expired => "expired",
    };
    let data = json!({
        "reason": reason,
        "requested": requested,
        "earliest": earliest.map(|position| position.to_string()),
    });
    let told = NewEvent {
        event_type: EventType::from_stored(GAP),
        about: None,
        occurred_at: Some(UnixMillis::now()),
        data: Bytes::from(data.to_string()),
    };
    Event::at(earliest.map(Position::previous).unwrap_or_default(), &tenant.into(), &told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_point_is_a_word_an_id_or_a_time() {
        let id = Position::from_stored(1_763_900_000_123 << 20);
        assert_eq!(Point::read("now"), Point::Now);
        assert_eq!(Point::read("earliest"), Point::Earliest);
        assert_eq!(Point::read(&id.to_string()), Point::After(id));
        assert_eq!(Point::read("2025-11-23T12:13:20.123Z"), Point::Since(id.time()));
        assert_eq!(Point::read("evt_"), Point::Unreadable("evt_".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,100}") {
            if let Point::Unreadable(repeated) = Point::read(&text) {
                prop_assert!(text.starts_with(&repeated));
            }
        }
    }
}
