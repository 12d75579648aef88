//! Parsing JSON: at most 127 levels deep, and each member of an object once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::api::problem::{ApiResult, Code, Problem};

/// The deepest nesting of arrays and objects. This is the recursion limit of `serde_json`.
pub(crate) const MAX_DEPTH: usize = 127;

/// 400 for invalid JSON, for nesting over [`MAX_DEPTH`], or if an object has a member twice: parsers differ about which of
/// the two counts (RFC 8259, section 4).
pub(crate) fn parse(body: &[u8]) -> ApiResult<Value> {
    let value: Unambiguous = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    Ok(value.0)
}

pub(crate) fn not_json(error: &serde_json::Error) -> Problem {
    let reason = error.to_string();
    let detail = if reason.starts_with("recursion limit exceeded") {
        format!("the body is nested deeper than {MAX_DEPTH} levels")
    } else {
        format!("the body is not valid JSON: {reason}")
    };
    Problem::new(Code::InvalidJson, detail)
}

/// A JSON value in which no object names a member twice.
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
                return Err(Error::custom(format_args!("the member {name:?} appears twice")));
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

    #[test]
    fn a_body_deeper_than_the_limit_is_refused_with_the_limit_named() {
        for levels in [MAX_DEPTH + 1, 100_000] {
            for closed in [true, false] {
                let close = if closed { "]".repeat(levels) } else { String::new() };
                let refused =
                    parse(format!("{}{close}", "[".repeat(levels)).as_bytes()).unwrap_err();
                assert!(refused.to_string().contains("127 levels"), "{levels}: {refused}");
            }
        }
        let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(parse(deepest.as_bytes()).is_ok());
    }

    #[test]
    fn a_repeated_member_is_refused_by_name() {
        for body in [r#"{"a": 1, "b": 2, "a": 3}"#, r#"[{"b": {"a": 1, "\u0061": 1}}]"#] {
            let refused = parse(body.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("\"a\" appears twice"), "{refused}");
        }
        assert!(parse(br#"{"a": {"b": 1}, "b": {"b": 2}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn a_value_survives_writing_and_parsing(value in any_value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
                            }
        }

        #[test]
        fn any_bytes_parse_as_serde_json_parses_them_or_are_refused(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                r#"[\[\]{}:,"a1\\ue-]{0,24}"#.prop_map(String::into_bytes),
            ],
        ) {
            let other = serde_json::from_slice::<Value>(&body);
            match parse(&body) {
                Ok(value) => prop_assert_eq!(value, other.unwrap()),
                Err(problem) => prop_assert!(other.is_err() || problem.to_string().contains("twice")),
            }
        }
    }
}
