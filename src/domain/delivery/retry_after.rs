//! The header `Retry-After`: the delay that a receiver requests.

use std::time::{Duration, UNIX_EPOCH};

use crate::domain::time::UnixMillis;

/// The longest delay that a receiver can request.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Parses `Retry-After`, seconds or a date (RFC 9110, 10.2.3), to the delay from `now`, at most [`MAX_RETRY_AFTER`].
/// `None`: the text is neither.
pub fn retry_after(text: &str, now: UnixMillis) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number beyond `u64` is certainly beyond the maximum.
    let wait = if is_number {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let since_1970 = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        UnixMillis::EPOCH.after(since_1970).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixMillis::parse("2026-11-25T17:00:00Z").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Wed, 25 Nov 2026 17:01:00 GMT", Some(60)),
            ("Wed, 25 Nov 2026 16:59:00 GMT", Some(0)),
            ("Wed, 25 Nov 2099 17:00:00 GMT", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_bounded_delay_or_none(
            text in "[ -~]{0,40}|[0-9]{0,30}|[A-Z][a-z]{2}, [0-9]{2} (Nov|Feb) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
            now in any::<i64>(),
        ) {
            let wait = retry_after(&text, UnixMillis::from_i64(now));
            prop_assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
        }

        #[test]
        fn seconds_are_parsed_exactly(seconds in 0_u64..=86_400, now in any::<i64>()) {
            let read = retry_after(&seconds.to_string(), UnixMillis::from_i64(now));
            prop_assert_eq!(read, Some(Duration::from_secs(seconds)));
        }
    }
}
