//! Where to begin: what `--since` takes.

use std::str::FromStr;
use std::time::Duration;

use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A text that is no place to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time ago (90s, 15m, 1h, 2d), an RFC 3339 time, an event's id (evt_…) or earliest"
)]
pub struct BadSince;

/// Where in the log to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the oldest event that is kept.
    Earliest,
    /// With events so long ago.
    Ago(Duration),
    /// With events of this time.
    Time(UnixMillis),
    /// With what comes after this event.
    Event(Position),
}

impl Since {
    /// As `after` takes it (API.md, "Events").
    pub(super) fn to_after(self, now: UnixMillis) -> String {
        match self {
            Self::Earliest => "earliest".to_owned(),
            Self::Ago(ago) => now.before(ago).to_string(),
            Self::Time(time) => time.to_string(),
            Self::Event(position) => position.to_string(),
        }
    }
}

impl FromStr for Since {
    type Err = BadSince;

    fn from_str(text: &str) -> Result<Self, BadSince> {
        if text == "earliest" {
            return Ok(Self::Earliest);
        }
        if let Some(ago) = read_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = UnixMillis::parse(text).map(Self::Time);
        time.or_else(|| text.parse().ok().map(Self::Event)).ok_or(BadSince)
    }
}

/// Reads a whole number and its unit.
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
    fn each_form_is_read() {
        for (text, since) in [
            ("earliest", Since::Earliest),
            ("90s", Since::Ago(Duration::from_secs(90))),
            ("15m", Since::Ago(Duration::from_secs(900))),
            ("1h", Since::Ago(Duration::from_secs(3_600))),
            ("2d", Since::Ago(Duration::from_secs(172_800))),
            ("1970-01-01T01:00:01+01:00", Since::Time(UnixMillis::from_i64(1_000))),
            ("evt_0000000000001", Since::Event("evt_0000000000001".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(since), "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        let texts =
            ["", "s", "-1h", "+1h", "1", "1w", "1.5h", "now", "1h ", "99999999999999999999d"];
        for text in texts {
            assert_eq!(text.parse::<Since>(), Err(BadSince), "{text}");
        }
    }

    #[test]
    fn it_is_told_as_the_hub_takes_it() {
        let now = UnixMillis::from_i64(7_200_000);
        let hour_ago: Since = "1h".parse().unwrap();
        assert_eq!(hour_ago.to_after(now), "1970-01-01T01:00:00.000Z");
        let ages_ago: Since = "9999999999d".parse().unwrap();
        assert!(UnixMillis::parse(&ages_ago.to_after(now)).is_some());
        assert_eq!(Since::Earliest.to_after(now), "earliest");
    }

    proptest! {
        #[test]
        fn any_text_is_a_place_that_the_hub_takes_or_refused(
            text in ".{0,30}|[0-9]{0,22}[smhdw]|evt_[0-9A-Z]{13}",
            now in any::<i64>(),
        ) {
            if let Ok(since) = text.parse::<Since>() {
                let after = since.to_after(UnixMillis::from_i64(now));
                let taken = after == "earliest"
                    || after.parse::<Position>().is_ok()
                    || UnixMillis::parse(&after).is_some();
                prop_assert!(taken, "{after}");
            }
        }
    }
}
