//! Points in time with a resolution of one millisecond.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01T00:00:00Z, displayed as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(i64);

/// 0000-01-01T00:00:00.000Z, the first time in RFC 3339.
const MIN: i64 = -62_167_219_200_000;
/// 9999-12-30T22:00:00.000Z, the last time in jiff.
const MAX: i64 = 253_402_207_200_000;

impl UnixMillis {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Functions of the domain get the time as an argument and do not call this.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    /// A time before the year 0000 or after 9999 becomes the nearest one in this range.
    pub fn from_i64(millis: i64) -> Self {
        Self(millis.clamp(MIN, MAX))
    }

    pub fn as_i64(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970-01-01 UTC, rounded down: the unit of the header `webhook-timestamp`.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Parses RFC 3339 (section 5.6) and drops parts of a millisecond. `None`: the text is invalid, or its time outside
    /// the years 0000 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        (MIN..=MAX).contains(&time.as_millisecond()).then(|| Self(time.as_millisecond()))
    }

    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self::from_i64(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self::from_i64(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_out_of_range) => Err(fmt::Error),
        }
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("expected an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_displayed_in_utc_with_milliseconds() {
        let time = UnixMillis::parse("2026-11-23T15:00:00+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-11-23T14:00:00.000Z");
        assert_eq!(
            UnixMillis::parse("2026-11-23T14:00:00.1239Z").unwrap().to_string(),
            "2026-11-23T14:00:00.123Z"
        );
    }

    #[test]
    fn a_time_without_offset_or_in_another_format_is_rejected() {
        for text in ["2026-11-23T14:00:00", "2026-11-23", "yesterday", "", "1763900000"] {
            assert_eq!(UnixMillis::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_displayed_time_parses_back_and_sorts_as_text(a in any::<i64>(), b in MIN..=MAX) {
            let (a, b) = (UnixMillis::from_i64(a), UnixMillis::from_i64(b));
            prop_assert_eq!(UnixMillis::parse(&a.to_string()), Some(a));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn any_text_is_rejected_or_a_displayable_time(
            text in ".{0,40}|[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{0,12})?)?(Z|z|[-+][0-9]{2}:?[0-9]{2})?",
        ) {
            if let Some(time) = UnixMillis::parse(&text) {
                prop_assert_eq!(UnixMillis::parse(&time.to_string()), Some(time));
                prop_assert_eq!(time.to_string().len(), "2026-11-23T14:00:00.000Z".len());
            }
        }
    }
}
