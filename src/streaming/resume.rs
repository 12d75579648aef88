//! Resume points: a client names a position, and the hub checks that the events after it are still kept.

use bytes::Bytes;
use serde_json::json;

use super::worker::Streams;
use crate::domain::event::event_type::EventType;
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::domain::subscription::gap::GAP;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// An error repeats at most this much of an invalid resume point.
const MAX_ECHOED_CHARS: usize = 64;

/// The position that a client wants to start after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResumePoint {
    /// The end of the log.
    Now,
    /// The start of the log.
    Earliest,
    After(Position),
    /// The first event from this time on.
    Since(UnixMillis),
    Unreadable(String),
}

impl ResumePoint {
    /// Parses `now`, `earliest`, an event id or an RFC 3339 time; else [`ResumePoint::Unreadable`].
    pub(crate) fn parse(text: &str) -> Self {
        match (text, text.parse::<Position>(), UnixMillis::parse(text)) {
            ("now", ..) => Self::Now,
            ("earliest", ..) => Self::Earliest,
            (_, Ok(position), _) => Self::After(position),
            (_, _, Some(time)) => Self::Since(time),
            _ => Self::Unreadable(text.chars().take(MAX_ECHOED_CHARS).collect()),
        }
    }
}

/// The reason why a client cannot resume where it wants to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// The text is no resume point, or the position is above the end of the log.
    Unknown,
    /// The events directly after the position have expired.
    Expired,
}

/// The result of resolving a resume point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// The client continues after this position and misses nothing.
    At(Position),
    /// The client misses events.
    Gone {
        reason: GapReason,
        /// The oldest kept event, if any.
        earliest: Option<Position>,
    },
}

impl Streams {
    /// [`Resumption::Gone`] if the point is unreadable, above the end of the log, or if events directly after it have
    /// expired. A time before the oldest kept event means the start of the log, a time after the newest its end.
    pub(crate) async fn resolve(&self, point: &ResumePoint) -> Result<Resumption, StoreError> {
        match point {
            ResumePoint::Now => Ok(Resumption::At(self.log.head())),
            ResumePoint::Earliest => Ok(Resumption::At(Position::START)),
            ResumePoint::Since(time) => {
                let position = Position::before_time(*time);
                let oldest = self.store.oldest().await?.unwrap_or_default();
                let position = if position < oldest { Position::START } else { position };
                Ok(Resumption::At(position.min(self.log.head())))
            }
            ResumePoint::After(position)
                if *position == Position::START || self.log.is_recent(*position) =>
            {
                Ok(Resumption::At(*position))
            }
            ResumePoint::After(position) => {
                let reason = if *position < self.store.select_expired_up_to().await? {
                    GapReason::Expired
                } else if *position > self.store.head().await? {
                    // The database's head, because another node may have appended events that this one has not read.
                    GapReason::Unknown
                } else {
                    return Ok(Resumption::At(*position));
                };
                Ok(Resumption::Gone { reason, earliest: self.store.oldest().await? })
            }
            ResumePoint::Unreadable(_) => Ok(Resumption::Gone {
                reason: GapReason::Unknown,
                earliest: self.store.oldest().await?,
            }),
        }
    }
}

/// Creates the `hookhub.gap` event, which reports to a client that events are missing after `point`.
///
/// The position of the event is just before `earliest`, the oldest kept event, where the stream continues.
pub(crate) fn gap_event(
    tenant: &str,
    point: &ResumePoint,
    reason: GapReason,
    earliest: Option<Position>,
) -> Event {
    let requested = match point {
        ResumePoint::After(position) => position.to_string(),
        ResumePoint::Unreadable(text) => text.clone(),
        ResumePoint::Now | ResumePoint::Earliest | ResumePoint::Since(_) => String::new(),
    };
    let reason = match reason {
        GapReason::Unknown => "unknown",
        GapReason::Expired => "expired",
    };
    let data = json!({
        "reason": reason,
        "requested": requested,
        "earliest": earliest.map(|position| position.to_string()),
    });
    let gap = NewEvent {
        event_type: EventType::from_stored(GAP),
        about: None,
        occurred_at: Some(UnixMillis::now()),
        data: Bytes::from(data.to_string()),
    };
    Event::at(earliest.map(Position::previous).unwrap_or_default(), &tenant.into(), &gap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_resume_point_is_a_word_an_event_id_or_a_time() {
        let id = Position::from_stored(1_763_900_000_123 << 20);
        assert_eq!(ResumePoint::parse("now"), ResumePoint::Now);
        assert_eq!(ResumePoint::parse("earliest"), ResumePoint::Earliest);
        assert_eq!(ResumePoint::parse(&id.to_string()), ResumePoint::After(id));
        assert_eq!(ResumePoint::parse("2025-11-23T12:13:20.123Z"), ResumePoint::Since(id.time()));
        assert_eq!(ResumePoint::parse("evt_"), ResumePoint::Unreadable("evt_".into()));
    }

    proptest! {
        #[test]
        fn any_text_parses_and_is_echoed_only_in_part(text in ".{0,100}") {
            if let ResumePoint::Unreadable(echoed) = ResumePoint::parse(&text) {
                prop_assert!(text.starts_with(&echoed));
            }
        }
    }
}
