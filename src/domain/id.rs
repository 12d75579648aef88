//! Public ids: a prefix and 13 Crockford base32 digits, sorted by time.

use std::fmt;
use std::str::FromStr;

use super::position::COUNTER_BITS;
use super::time::UnixMillis;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 13;

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected {prefix} and {LENGTH} characters of 0-9, A-Z without I, L, O, U")]
pub struct BadId {
    prefix: &'static str,
}

/// Writes `prefix` and then `number` as 13 base32 digits. `number` must not be negative.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, prefix: &str, number: i64) -> fmt::Result {
    let mut text = [b'0'; LENGTH];
    let mut rest = number;
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(rest & 31).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    f.write_str(prefix)?;
    f.write_str(std::str::from_utf8(&text).map_err(|_not_ascii| fmt::Error)?)
}

/// Parses `prefix` and 13 base32 digits, in upper or lower case.
pub(crate) fn read(prefix: &'static str, text: &str) -> Result<i64, BadId> {
    let digits = text
        .strip_prefix(prefix)
        .filter(|digits| digits.len() == LENGTH)
        .ok_or(BadId { prefix })?;
    let mut number: u128 = 0;
    for byte in digits.bytes() {
        let digit = DIGITS
            .iter()
            .position(|known| *known == byte.to_ascii_uppercase())
            .ok_or(BadId { prefix })?;
        number = number << 5 | u128::try_from(digit).unwrap_or_default();
    }
    i64::try_from(number).map_err(|_too_large| BadId { prefix })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Creates an id from the time `now`. The low bits of `random` distinguish ids of the same millisecond.
            pub fn new(now: UnixMillis, random: u32) -> Self {
                Self((now.as_i64().max(0) << COUNTER_BITS) | i64::from(random & ((1 << COUNTER_BITS) - 1)))
            }

            /// Returns the id with this number in the database. A negative number counts as 0.
            pub fn from_stored(number: i64) -> Self {
                Self(number.max(0))
            }

            pub fn stored(self) -> i64 {
                self.0
            }

            /// Returns the time at which the id was created, in milliseconds.
            pub fn time(self) -> UnixMillis {
                UnixMillis::from_i64(self.0 >> COUNTER_BITS)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                read($prefix, text).map(Self)
            }
        }
    };
}

id!(
    /// `sub_…`.
    SubscriptionId, "sub_"
);
id!(
    /// `att_…`: unique within its delivery; contains the start of the attempt.
    AttemptId, "att_"
);
id!(
    /// `key_…`: the public id of an API key, not the key itself.
    KeyId, "key_"
);
id!(
    /// `con_…`: an open connection; contains the time of the connection.
    ConnectionId, "con_"
);

id!(
    /// `aud_…`: an entry of the audit log.
    AuditId, "aud_"
);
id!(
    /// `rpl_…`: the position of the log entry that requested the replay.
    ReplayId, "rpl_"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_contains_its_time_and_parses_back() {
        let id = SubscriptionId::new(UnixMillis::from_i64(1_763_900_000_123), u32::MAX);
        assert_eq!(id.time(), UnixMillis::from_i64(1_763_900_000_123));
        assert_eq!(id.to_string().parse::<SubscriptionId>(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_rejected() {
        let id = KeyId::new(UnixMillis::from_i64(1), 7).to_string();
        assert!(id.parse::<SubscriptionId>().is_err());
        assert!("sub_ZZZZZZZZZZZZZ".parse::<SubscriptionId>().is_err(), "over 63 bits");
        assert!("sub_".parse::<SubscriptionId>().is_err());
    }

    proptest! {
        #[test]
        fn ids_parse_back_sort_by_time_and_have_one_kind(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let (first, second) = (AttemptId::from_stored(a), AttemptId::from_stored(b));
            prop_assert_eq!(first.to_string().parse(), Ok(first));
            prop_assert_eq!(first.to_string().cmp(&second.to_string()), a.cmp(&b));
            prop_assert!(first.to_string().parse::<ConnectionId>().is_err());
        }
    }
}
