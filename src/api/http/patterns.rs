//! Reading a list of event type patterns, as subscriptions, keys, stream tokens and WebSocket commands have one.

use super::fields::{Field, Fields};
use crate::domain::event::event_type::Pattern;

/// The most patterns in one list.
pub(crate) const MAX_PATTERNS: usize = 100;

/// Takes an array of event type patterns from the field `name`. An invalid pattern is recorded as an error.
pub(crate) fn patterns(fields: &mut Fields, name: &'static str) -> Field<Vec<Pattern>> {
    let items = match fields.list(name, MAX_PATTERNS) {
        Field::Is(items) => items,
        Field::Null => return Field::Null,
        Field::Absent => return Field::Absent,
    };
    if items.is_empty() {
        fields.fault(name, "names at least one pattern; \"*\" is every event");
    }
    let mut patterns = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item.as_str().map(str::parse::<Pattern>) {
            Some(Ok(pattern)) => patterns.push(pattern),
            Some(Err(error)) => fields.fault(format!("{name}/{index}"), error.to_string()),
            None => fields.fault(format!("{name}/{index}"), "expected a string"),
        }
    }
    Field::Is(patterns)
}
