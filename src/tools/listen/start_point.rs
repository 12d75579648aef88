//! The start point of `hookhub listen`, as `--since` takes it.

use std::str::FromStr;
use std::time::Duration;

use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time ago (90s, 15m, 1h, 2d), an RFC 3339 time, an event's id (evt_…) or earliest"
)]
pub struct InvalidStartPoint;

/// The position in the log to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPoint {
    /// The oldest kept event.
    Earliest,
    /// The first event from this long before the start on.
    Ago(Duration),
    /// The first event from this time on.
    Time(UnixMillis),
    /// The first event after this one.
    Event(Position),
}

impl StartPoint {
    /// Returns the value of the API's query parameter `after`. `now`: the time from which [`Self::Ago`] counts back.
    pub(super) fn to_after(self, now: UnixMillis) -> String {
        match self {
            Self::Earliest => "earliest".to_owned(),
            Self::Ago(ago) => now.before(ago).to_string(),
            Self::Time(time) => time.to_string(),
            Self::Event(position) => position.to_string(),
        }
    }
}

impl FromStr for StartPoint {
    type Err = InvalidStartPoint;

    /// Parses `earliest`, a duration before now such as `10m`, an RFC 3339 time, or the id of an event.
    fn from_str(text: &str) -> Result<Self, InvalidStartPoint> {
        if text == "earliest" {
            return Ok(Self::Earliest);
        }
        if let Some(ago) = read_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = UnixMillis::parse(text).map(Self::Time);
        time.or_else(|| text.parse().ok().map(Self::Event)).ok_or(InvalidStartPoint)
    }
}

/// A whole number and `s`, `m`, `h` or `d` (days). `None`: anything else, or too large.
fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit_s) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(unit_s).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_start_point_parses() {
        for (text, since) in [
            ("earliest", StartPoint::Earliest),
            ("90s", StartPoint::Ago(Duration::from_secs(90))),
            ("15m", StartPoint::Ago(Duration::from_secs(900))),
            ("1h", StartPoint::Ago(Duration::from_secs(3_600))),
            ("2d", StartPoint::Ago(Duration::from_secs(172_800))),
            ("1970-01-01T01:00:01+01:00", StartPoint::Time(UnixMillis::from_i64(1_000))),
            ("evt_0000000000001", StartPoint::Event("evt_0000000000001".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(since), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_start_point_is_refused() {
        let texts =
            ["", "s", "-1h", "+1h", "1", "1w", "1.5h", "now", "1h ", "99999999999999999999d"];
        for text in texts {
            assert_eq!(text.parse::<StartPoint>(), Err(InvalidStartPoint), "{text}");
        }
    }

    #[test]
    fn a_start_point_becomes_a_value_of_after() {
        let now = UnixMillis::from_i64(7_200_000);
        let hour_ago: StartPoint = "1h".parse().unwrap();
        assert_eq!(hour_ago.to_after(now), "1970-01-01T01:00:00.000Z");
        let ages_ago: StartPoint = "9999999999d".parse().unwrap();
        assert!(UnixMillis::parse(&ages_ago.to_after(now)).is_some());
        assert_eq!(StartPoint::Earliest.to_after(now), "earliest");
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_valid_value_of_after_or_is_refused(
            text in ".{0,30}|[0-9]{0,22}[smhdw]|evt_[0-9A-Z]{13}",
            now in any::<i64>(),
        ) {
            if let Ok(since) = text.parse::<StartPoint>() {
                let after = since.to_after(UnixMillis::from_i64(now));
                let taken = after == "earliest"
                    || after.parse::<Position>().is_ok()
                    || UnixMillis::parse(&after).is_some();
                prop_assert!(taken, "{after}");
            }
        }
    }
}
