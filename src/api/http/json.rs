//! JSON as the hub takes it: so deep and no deeper, and each member of an object once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::api::problem::{Code, Problem};

/// How deep an event's data may be nested: what readers with a limit commonly allow.
pub(crate) const DEEPEST: usize = 128;
/// How deep a body may be: data, in an event.
const DEEPEST_BODY: usize = DEEPEST + 1;

/// Reads a JSON text. One that names a member twice is refused: it says two things, and readers differ about which
/// counts (RFC 8259, section 4).
pub(crate) fn read(body: &[u8]) -> Result<Value, Problem> {
    if depth(body) > DEEPEST_BODY {
        let detail =
            format!("the body is nested deeper than {DEEPEST_BODY} levels, the most that is read");
        return Err(Problem::new(Code::InvalidJson, detail));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    // Its own limit is a little lower, and is not told so clearly.
    reader.disable_recursion_limit();
    let value = Unambiguous::deserialize(&mut reader).map_err(|error| not_json(&error))?;
    reader.end().map(|()| value.0).map_err(|error| not_json(&error))
}

/// The problem of a body that is no JSON.
pub(crate) fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(Code::InvalidJson, format!("the body is not valid JSON: {error}"))
}

/// How deep a JSON text is nested.
pub(crate) fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A JSON value whose objects name each member once.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(Error::custom(format_args!("the member {name:?} is given twice")));
            }
            let Unambiguous(value) = members.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any JSON value of some depth and size.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300_f64..1e300).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn nesting_counts_outside_of_strings_alone() {
        assert_eq!(depth(br#"{"a[[[": ["\\\"[[", {"b": 1}], "c": []}"#), 3);
        assert_eq!(depth(b"1"), 0);
    }

    #[test]
    fn what_is_too_deep_is_told_the_limit() {
        for levels in [DEEPEST_BODY + 1, 100_000] {
            for closed in [true, false] {
                let close = if closed { "]".repeat(levels) } else { String::new() };
                let told = read(format!("{}{close}", "[".repeat(levels)).as_bytes()).unwrap_err();
                assert!(told.to_string().contains("129 levels"), "{levels}: {told}");
            }
        }
        let just = format!("{}{}", "[".repeat(DEEPEST_BODY), "]".repeat(DEEPEST_BODY));
        assert!(read(just.as_bytes()).is_ok());
    }

    #[test]
    fn a_member_that_is_given_twice_is_named() {
        for body in [r#"{"a": 1, "b": 2, "a": 3}"#, r#"[{"b": {"a": 1, "\u0061": 1}}]"#] {
            let told = read(body.as_bytes()).unwrap_err().to_string();
            assert!(told.contains("\"a\" is given twice"), "{told}");
        }
        assert!(read(br#"{"a": {"b": 1}, "b": {"b": 2}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_what_was_written(value in any_value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
                prop_assert_eq!(depth(text.as_bytes()), levels(&value));
            }
        }

        #[test]
        fn any_bytes_are_read_as_other_readers_do_or_refused(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                r#"[\[\]{}:,"a1\\ue-]{0,24}"#.prop_map(String::into_bytes),
            ],
        ) {
            let other = serde_json::from_slice::<Value>(&body);
            match read(&body) {
                Ok(value) => prop_assert_eq!(value, other.unwrap()),
                Err(problem) => prop_assert!(other.is_err() || problem.to_string().contains("twice")),
            }
        }
    }
}
