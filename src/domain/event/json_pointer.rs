//! JSON pointers (RFC 6901), which select the order key in an event's data.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::domain::serde_text::serialize_as_text;

/// In characters.
const MAX_LENGTH: usize = 256;

/// A JSON pointer such as `/order/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Box<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a JSON pointer into the data, such as \"/order/id\", of at most {MAX_LENGTH} characters, with ~0 for ~ and ~1 for /"
)]
pub struct BadJsonPointer;

impl JsonPointer {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a hash of the selected value. White space and escapes do not change it; the order of an object's members
    /// and the form of a number (`1`, `1.0`) do. A missing value counts as null.
    pub fn key_of(&self, data: &[u8]) -> i64 {
        let value = self.find(data).unwrap_or_else(|| "null".to_owned());
        let digest = Sha256::digest(value);
        let (first, _rest) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        i64::from_be_bytes(*first)
    }

    /// Returns the selected value as JSON without optional white space and escapes. `None`: the value is missing.
    fn find(&self, data: &[u8]) -> Option<String> {
        let mut found: &RawValue = serde_json::from_slice(data).ok()?;
        // The text before the first slash is empty.
        for part in self.0.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            found = serde_json::from_str::<Parts<'_>>(found.get()).ok()?.named(&name)?;
        }
        // serde_json rejects some JSON, such as half of a surrogate pair. Such JSON stays as it is.
        let value: Result<Value, _> = serde_json::from_str(found.get());
        Some(value.map_or_else(|_| found.get().to_owned(), |value| value.to_string()))
    }
}

/// The unparsed parts of an array or an object.
enum Parts<'a> {
    Members(Vec<(&'a RawValue, &'a RawValue)>),
    Items(Vec<&'a RawValue>),
}

impl<'a> Parts<'a> {
    /// The member or item that one segment selects (RFC 6901, 4). Of members with the same name the last counts.
    fn named(&self, name: &str) -> Option<&'a RawValue> {
        match self {
            Self::Members(members) => {
                let has_name = |known: &RawValue| {
                    serde_json::from_str::<Cow<'_, str>>(known.get())
                        .is_ok_and(|known| known == name)
                };
                members.iter().rev().find(|(known, _)| has_name(known)).map(|(_, value)| *value)
            }
            Self::Items(items) => {
                let is_index = name == "0" || !name.starts_with(['0', '+']);
                name.parse::<usize>()
                    .ok()
                    .filter(|_| is_index)
                    .and_then(|at| items.get(at).copied())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Parts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyParts)
    }
}

struct AnyParts;

impl<'de> Visitor<'de> for AnyParts {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Parts<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = parts.next_element()? {
            items.push(item);
        }
        Ok(Parts::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Parts<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = parts.next_entry()? {
            members.push(member);
        }
        Ok(Parts::Members(members))
    }
}

serialize_as_text!(JsonPointer);

impl FromStr for JsonPointer {
    type Err = BadJsonPointer;

    /// Parses a JSON pointer such as `/customer/id` (RFC 6901, section 3). The empty pointer selects all of the data.
    fn from_str(text: &str) -> Result<Self, BadJsonPointer> {
        let begins = text.is_empty() || text.starts_with('/');
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let fits = text.chars().count() <= MAX_LENGTH && !text.contains('\0');
        if begins && escapes && fits { Ok(Self(text.into())) } else { Err(BadJsonPointer) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(pointer: &str, data: &str) -> i64 {
        pointer.parse::<JsonPointer>().unwrap().key_of(data.as_bytes())
    }

    #[test]
    fn equal_values_have_equal_keys_whatever_the_other_data() {
        let one = key("/order/id", r#"{"order": {"id": 7, "state": "paid"}}"#);
        assert_eq!(one, key("/order/id", r#"{"n": 1, "order": {"id": 7}}"#));
        assert_ne!(one, key("/order/id", r#"{"order": {"id": 8}}"#));
        assert_ne!(one, key("/order/id", r#"{"order": {"id": "7"}}"#));
    }

    #[test]
    fn a_missing_value_counts_as_null() {
        assert_eq!(key("/a", "{}"), key("/a", r#"{"a": null}"#));
        assert_eq!(key("/a", "7"), key("/a", "[]"));
    }

    #[test]
    fn escaped_names_are_found() {
        assert_eq!(key("/a~1b/m~0n", r#"{"a/b": {"m~n": 1}}"#), key("", "1"));
    }

    #[test]
    fn unusual_json_elsewhere_does_not_change_the_key() {
        let deep = format!("{}7{}", "[".repeat(127), "]".repeat(127));
        for odd in ["1e999999", r#""\ud800""#, r#"{"\ud800": 1}"#, &deep] {
            let data = format!(r#"{{"odd": {odd}, "\ud800": 1, "id": 7}}"#);
            assert_eq!(key("/id", &data), key("/id", r#"{"id": 7}"#), "{odd}");
            assert_ne!(key("/odd", &data), key("/none", &data), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn the_selected_value_is_the_one_that_serde_json_selects(
            data in r#"\{("(a|b|~|/|0|\\u0061)":(1|"x"|\[\]|\[[0-9],\{"a":2\}\]|\{"a":[0-9]\}),){0,3}"z":0\}"#,
            pointer in "(/(a|b|~0|~1|0|1|00|[+]0|z|-)){0,3}",
        ) {
            let other: Value = serde_json::from_str(&data).unwrap();
            let value = other.pointer(&pointer).unwrap_or(&Value::Null);
            prop_assert_eq!(key(&pointer, &data), key("", &value.to_string()));
        }

        #[test]
        fn any_text_is_parsed_or_rejected(text in "[/~01a]{0,12}") {
            let tildes = text.char_indices().filter(|(_, c)| *c == '~');
            let escapes = tildes.into_iter().all(|(at, _)| text.split_at(at + 1).1.starts_with(['0', '1']));
            let begins = text.is_empty() || text.starts_with('/');
            prop_assert_eq!(text.parse::<JsonPointer>().is_ok(), begins && escapes);
        }
    }
}
