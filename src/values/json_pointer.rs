//! JSON pointers (RFC 6901): which part of an event's data its order goes by.

use std::str::FromStr;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The longest pointer, in characters.
const LONGEST: usize = 256;

/// A JSON pointer: `/order/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Box<str>);

/// A text that is no JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a JSON pointer into the data, such as \"/order/id\", of at most {LONGEST} characters, with ~0 for ~ and ~1 for /"
)]
pub struct BadJsonPointer;

impl JsonPointer {
    /// What stands for the value there in `data`, which is JSON: the same value gives the same key. What is not there
    /// counts as null.
    pub fn key_of(&self, data: &[u8]) -> i64 {
        let data: Value = serde_json::from_slice(data).unwrap_or_default();
        let value = data.pointer(&self.0).unwrap_or(&Value::Null);
        let digest = Sha256::digest(value.to_string());
        let (first, _rest) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        i64::from_be_bytes(*first)
    }
}

impl AsRef<str> for JsonPointer {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for JsonPointer {
    type Err = BadJsonPointer;

    /// RFC 6901, section 3. The empty pointer, which is all of the data, is taken too.
    fn from_str(text: &str) -> Result<Self, BadJsonPointer> {
        let begins = text.is_empty() || text.starts_with('/');
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let fits = text.chars().count() <= LONGEST && !text.contains('\0');
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
    fn the_same_value_gives_the_same_key_wherever_else_the_data_differ() {
        let one = key("/order/id", r#"{"order": {"id": 7, "state": "paid"}}"#);
        assert_eq!(one, key("/order/id", r#"{"n": 1, "order": {"id": 7}}"#));
        assert_ne!(one, key("/order/id", r#"{"order": {"id": 8}}"#));
        assert_ne!(one, key("/order/id", r#"{"order": {"id": "7"}}"#));
    }

    #[test]
    fn what_is_not_there_counts_as_null() {
        assert_eq!(key("/a", "{}"), key("/a", r#"{"a": null}"#));
        assert_eq!(key("/a", "7"), key("/a", "[]"));
    }

    #[test]
    fn escaped_names_are_found() {
        assert_eq!(key("/a~1b/m~0n", r#"{"a/b": {"m~n": 1}}"#), key("", "1"));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[/~01a]{0,12}") {
            let tildes = text.char_indices().filter(|(_, c)| *c == '~');
            let escapes = tildes.into_iter().all(|(at, _)| text.split_at(at + 1).1.starts_with(['0', '1']));
            let begins = text.is_empty() || text.starts_with('/');
            prop_assert_eq!(text.parse::<JsonPointer>().is_ok(), begins && escapes);
        }
    }
}
