//! Positions in the log, which are also the public ids of events.

use std::fmt;
use std::str::FromStr;

use super::id;
use super::id::BadId;
use super::time::UnixMillis;

/// The low bits of a position, which count the events within one millisecond.
pub const COUNTER_BITS: u32 = 20;

/// A position in the log: a 63-bit number, `(milliseconds since 1970) << 20 | counter`.
///
/// Positions order the log and contain the time. `evt_` and 13 Crockford base32 digits are the event's public id; ids
/// sort as strings in the order of their positions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(i64);

impl Position {
    /// Before every event.
    pub const START: Self = Self(0);
    /// After every event.
    pub const END: Self = Self(i64::MAX);

    /// Returns the position with this number in the database. A negative number becomes [`Position::START`].
    pub fn from_stored(number: i64) -> Self {
        Self(number.max(0))
    }

    pub fn stored(self) -> i64 {
        self.0
    }

    /// The highest position below every event at `time` or later; a reader that starts there gets those events.
    pub fn before_time(time: UnixMillis) -> Self {
        Self(time.as_i64().clamp(0, i64::MAX >> COUNTER_BITS) << COUNTER_BITS).previous()
    }

    /// Returns the time at which the hub accepted the event at this position.
    pub fn time(self) -> UnixMillis {
        UnixMillis::from_i64(self.0 >> COUNTER_BITS)
    }

    /// One lower, whether or not it has an event; of [`Position::START`] the same.
    #[must_use]
    pub fn previous(self) -> Self {
        Self((self.0 - 1).max(0))
    }

    /// `count` higher. The events of one append have consecutive positions.
    #[must_use]
    pub fn advanced(self, count: usize) -> Self {
        Self(self.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        id::write(f, "evt_", self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = BadId;

    /// Parses the id of an event: `evt_` and 13 base32 digits, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, BadId> {
        id::read("evt_", text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_parses_back_to_its_position(number in 0..=i64::MAX) {
            let position = Position::from_stored(number);
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn ids_sort_as_their_positions(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let (a, b) = (Position::from_stored(a), Position::from_stored(b));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn any_text_is_parsed_or_rejected(text in ".{0,24}|(evt|sub|EVT)?_[0-9A-Za-z]{0,14}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert!(position.to_string().eq_ignore_ascii_case(&text));
            }
        }
    }

    #[test]
    fn a_position_contains_its_time() {
        let time = UnixMillis::from_i64(1_763_900_000_123);
        let first = Position::before_time(time).advanced(1);
        assert_eq!(first.time(), time);
        assert!(first.previous().time() < time);
    }
}
