//! Event types, and the patterns that match them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::serde_text::serialize_as_text;

/// The maximum length of an event type or pattern, in characters.
pub const MAX_LENGTH: usize = 256;

/// The first segment of the hub's own event types. A pattern that starts with `*` does not match it.
pub const RESERVED: &str = "hookhub";

/// The text is not an event type, or not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEventType(String);

/// Dot-separated segments of `[A-Za-z0-9_-]`, at most 256 characters: `order.paid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Arc<str>);

impl EventType {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }

    /// The syntax was checked at publication and is not checked again.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The event type `hookhub.{name}`, which only the hub publishes.
    pub fn operational(name: &'static str) -> Self {
        Self(format!("{RESERVED}.{name}").into())
    }
}

/// Whether the type is one of the hub's own: its first segment is [`RESERVED`].
pub fn is_reserved(event_type: &str) -> bool {
    event_type.split('.').next() == Some(RESERVED)
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = BadEventType;

    fn from_str(text: &str) -> Result<Self, BadEventType> {
        check(text, false)?;
        Ok(Self(text.into()))
    }
}

/// An event type with wildcards. `*` matches one segment, or one or more if it is the last segment. The pattern `*`
/// matches every type except the hub's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    pub fn any() -> Self {
        Self("*".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this pattern matches every type that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        self.includes(&other.0)
    }

    pub fn matches(&self, event_type: &str) -> bool {
        self.includes(event_type)
    }

    /// `text`: an event type, or a pattern, of which every type must be included.
    fn includes(&self, text: &str) -> bool {
        if self.0.starts_with('*') && is_reserved(text) {
            return false;
        }
        let mut pattern = self.0.split('.').peekable();
        let mut actual = text.split('.').peekable();
        while let Some(segment) = pattern.next() {
            let Some(found) = actual.next() else { return false };
            if segment == "*" && pattern.peek().is_none() {
                return true;
            }
            let is_rest = found == "*" && actual.peek().is_none();
            if is_rest || (segment != "*" && segment != found) {
                return false;
            }
        }
        actual.peek().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serialize_as_text!(Pattern);

impl FromStr for Pattern {
    type Err = BadEventType;

    fn from_str(text: &str) -> Result<Self, BadEventType> {
        check(text, true)?;
        Ok(Self(text.into()))
    }
}

/// Checks the syntax of an event type or, with `wildcards`, of a pattern.
fn check(text: &str, wildcards: bool) -> Result<(), BadEventType> {
    let what = if wildcards { "an event type pattern" } else { "an event type" };
    if text.is_empty() {
        return Err(BadEventType(format!("{what} may not be empty")));
    }
    if text.len() > MAX_LENGTH {
        return Err(BadEventType(format!("{what} has at most {MAX_LENGTH} characters")));
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return Err(BadEventType(format!("{what} has no empty segment between its dots")));
        }
        if segment == "*" && wildcards {
            continue;
        }
        if let Some(bad) =
            segment.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '_' && *c != '-')
        {
            let hint = if wildcards { ", or a whole segment is *" } else { "" };
            return Err(BadEventType(format!(
                "{what} is dot-separated segments of letters, digits, _ and -{hint}; found {bad:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(event_type)
    }

    #[test]
    fn a_star_matches_one_segment_and_at_the_end_one_or_more() {
        assert!(matches("order.*", "order.paid"));
        assert!(matches("order.*", "order.paid.eu"));
        assert!(!matches("order.*", "order"));
        assert!(matches("order.*.eu", "order.paid.eu"));
        assert!(!matches("order.*.eu", "order.paid.late.eu"));
        assert!(matches("*.paid", "order.paid"));
        assert!(matches("*", "order.paid.eu"));
        assert!(matches("order.paid", "order.paid"));
        assert!(!matches("order.paid", "order.paid.eu"));
    }

    #[test]
    fn the_hubs_own_types_are_matched_only_by_name() {
        assert!(!matches("*", "hookhub.subscription.created"));
        assert!(!matches("*.subscription.*", "hookhub.subscription.created"));
        assert!(matches("hookhub.*", "hookhub.subscription.created"));
        assert!(matches("hookhub.subscription.*", "hookhub.subscription.created"));
    }

    #[test]
    fn an_invalid_type_is_rejected() {
        for bad in ["", ".", "a..b", "a.", ".a", "a b", "a/b", "é", "a.b*", "order.**"] {
            assert!(bad.parse::<EventType>().is_err(), "{bad}");
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert!("a.*".parse::<EventType>().is_err());
        assert!("x".repeat(257).parse::<EventType>().is_err());
        assert!("x".repeat(256).parse::<EventType>().is_ok());
    }

    proptest! {
        #[test]
        fn a_type_matches_itself_and_its_own_wildcards(segments in prop::collection::vec("[a-z0-9_-]{1,6}", 1..6), at in 0usize..6) {
            prop_assume!(segments[0] != RESERVED);
            let text = segments.join(".");
            prop_assert!(matches(&text, &text));
            let mut wild = segments.clone();
            let at = at % wild.len();
            wild[at] = "*".into();
            prop_assert!(matches(&wild.join("."), &text));
            wild.truncate(at + 1);
            prop_assert!(matches(&wild.join("."), &text));
        }

        #[test]
        fn a_covering_pattern_matches_all_types_of_the_covered_one(
            wide in "(a|b|[*]|hookhub)([.](a|b|[*])){0,3}",
            narrow in "(a|b|[*]|hookhub)([.](a|b|[*])){0,3}",
            event_type in "(a|b|hookhub)([.](a|b|c)){0,4}",
        ) {
            let (wide, narrow): (Pattern, Pattern) = (wide.parse().unwrap(), narrow.parse().unwrap());
            prop_assert!(narrow.covers(&narrow));
            if wide.covers(&narrow) && narrow.matches(&event_type) {
                prop_assert!(wide.matches(&event_type));
            }
        }

        #[test]
        fn any_text_is_parsed_or_rejected(text in ".{0,40}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.as_str(), text.as_str());
            }
        }
    }
}
