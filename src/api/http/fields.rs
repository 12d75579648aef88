//! Reading a JSON object field by field: one response names every fault, and an unknown field is a fault.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::json;
use crate::api::problem::{ApiResult, FieldError, Problem};
use crate::domain::event::event_type::Pattern;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Field<T> {
    /// The field is missing, or invalid and recorded as a fault.
    #[default]
    Absent,
    /// The field is null, which asks for the default.
    Null,
    Is(T),
}

impl<T> Field<T> {
    /// Returns the value; `None` for a missing field or null.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// Converts the value with `convert`. A field that is absent or null stays as it is.
    pub(crate) fn and_then<U>(self, convert: impl FnOnce(T) -> Field<U>) -> Field<U> {
        match self {
            Self::Is(value) => convert(value),
            Self::Null => Field::Null,
            Self::Absent => Field::Absent,
        }
    }

    /// Fills an absent field with `current`. A field that is present stays as it is, also if it is null.
    pub(crate) fn or(self, current: impl Into<Option<T>>) -> Self {
        match (self, current.into()) {
            (Self::Absent, Some(current)) => Self::Is(current),
            (field, _) => field,
        }
    }
}

/// A JSON object that is being read. Each `take` removes a field; [`Fields::finish`] refuses the rest as unknown.
pub(crate) struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Parses a body that must be a JSON object. 400 if it is not JSON, 422 if it is not an object.
    pub(crate) fn parse(body: &[u8]) -> ApiResult<Self> {
        match json::parse(body)? {
            Value::Object(left) => Ok(Self { left, known: Vec::new(), errors: Vec::new() }),
            other => Err(Problem::invalid(vec![FieldError {
                pointer: String::new(),
                detail: format!("expected a JSON object, found {}", kind(&other)),
            }])),
        }
    }

    /// Returns whether the object still has this field, also if it is null. False once a method has taken it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Returns whether a field is missing or null.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.left.get(name).is_none_or(Value::is_null)
    }

    /// Removes a field from the object and returns its value: `None` if it is missing, `Some(Null)` if it is null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    /// Records an error about the field at the JSON pointer `/{pointer}`. [`Self::finish`] reports it.
    pub(crate) fn fault(&mut self, pointer: impl Display, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/{pointer}"), detail: detail.into() });
    }

    /// Records an error as [`Self::fault`] does. The field counts as absent.
    pub(crate) fn reject<T>(&mut self, name: &str, detail: impl Into<String>) -> Field<T> {
        self.fault(name, detail);
        Field::Absent
    }

    pub(crate) fn is_faulty(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Keeps the remaining fields from being reported: an earlier error leaves open which are expected.
    pub(crate) fn ignore_the_rest(&mut self) {
        self.left.clear();
    }

    /// Takes a string of at most `max_chars` characters. Another value is recorded as an error.
    pub(crate) fn text(&mut self, name: &'static str, max_chars: usize) -> Field<String> {
        self.read(name, |value| match value {
            Value::String(text) if text.contains('\0') => {
                Err("must not contain the character U+0000".into())
            }
            Value::String(text) if text.chars().count() > max_chars => {
                Err(format!("is longer than {max_chars} characters"))
            }
            Value::String(text) => Ok(text),
            other => Err(format!("expected a string, found {}", kind(&other))),
        })
    }

    /// Takes a string and parses it as a `T`. Another value is recorded as an error.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Field<T> {
        self.parsed_by(name, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// Takes a string and parses it with `parse`, whose error is a text for the client. Another value is recorded as an
    /// error.
    pub(crate) fn parsed_by<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Field<T> {
        self.read(name, |value| match value {
            Value::String(text) => parse(&text),
            other => Err(format!("expected a string, found {}", kind(&other))),
        })
    }

    /// Takes a whole number within `range`. Another value is recorded as an error.
    pub(crate) fn number<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Field<T>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        self.read(name, |value| whole_number(&value, &range).ok_or(expected))
    }

    /// Takes a boolean from the field `name`. A value of another type is recorded as an error.
    pub(crate) fn flag(&mut self, name: &'static str) -> Field<bool> {
        self.read(name, |value| {
            value.as_bool().ok_or_else(|| format!("expected true or false, found {}", kind(&value)))
        })
    }

    /// Takes an array of at most `max_items` items. Another value is recorded as an error.
    pub(crate) fn list(&mut self, name: &'static str, max_items: usize) -> Field<Vec<Value>> {
        self.read(name, |value| match value {
            Value::Array(items) if items.len() > max_items => {
                Err(format!("has more than {max_items} items"))
            }
            Value::Array(items) => Ok(items),
            other => Err(format!("expected an array, found {}", kind(&other))),
        })
    }

    /// Takes an object of at most `max_members` strings, each name and value with at most `max_chars` characters. Another
    /// value is recorded as an error; an invalid member is then missing in the result.
    pub(crate) fn texts(
        &mut self,
        name: &'static str,
        max_members: usize,
        max_chars: usize,
    ) -> Field<BTreeMap<String, String>> {
        let members = self.read(name, |value| match value {
            Value::Object(members) if members.len() > max_members => {
                Err(format!("has more than {max_members} members"))
            }
            Value::Object(members) => Ok(members),
            other => Err(format!("expected an object of strings, found {}", kind(&other))),
        });
        let fits = |text: &str| text.chars().count() <= max_chars && !text.contains('\0');
        let detail = format!("expected a string of at most {max_chars} characters without U+0000");
        members.and_then(|members| {
            let mut texts = BTreeMap::new();
            for (key, value) in members {
                match value {
                    Value::String(text) if fits(&key) && fits(&text) => {
                        texts.insert(key, text);
                    }
                    _ => self.fault(format!("{name}/{}", pointer_part(&key)), &*detail),
                }
            }
            Field::Is(texts)
        })
    }

    /// Takes an object, whose fields `read` takes; `None` only after `read` has recorded an error. Errors get their
    /// full JSON pointer.
    pub(crate) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Field<T> {
        let left = self.read(name, |value| match value {
            Value::Object(left) => Ok(left),
            other => Err(format!("expected an object, found {}", kind(&other))),
        });
        left.and_then(|left| {
            let mut inner = Self { left, known: Vec::new(), errors: Vec::new() };
            let read = read(&mut inner);
            let faults = inner.close();
            if let (Some(read), true) = (read, faults.is_empty()) {
                return Field::Is(read);
            }
            self.errors.extend(faults.into_iter().map(|FieldError { pointer, detail }| {
                FieldError {
                    pointer: format!("/{name}{}", if pointer == "/" { "" } else { &pointer }),
                    detail,
                }
            }));
            Field::Absent
        })
    }

    /// Takes a field and converts it with `read`, whose error is recorded; the field then counts as absent.
    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Field<T> {
        match self.take(name) {
            None => Field::Absent,
            Some(Value::Null) => Field::Null,
            Some(value) => match read(value) {
                Ok(value) => Field::Is(value),
                Err(detail) => self.reject(name, detail),
            },
        }
    }

    /// 422 with all recorded errors, and one for each field that no method has taken. Every parser calls it last.
    pub(crate) fn finish(self) -> ApiResult<()> {
        let errors = self.close();
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }

    /// Returns the recorded errors. Adds one error for each remaining field, because the API does not know it.
    fn close(mut self) -> Vec<FieldError> {
        let known = self.known.join(", ");
        for name in self.left.keys() {
            let pointer = format!("/{}", pointer_part(name));
            let detail = if known.is_empty() {
                "unknown field; none is expected here".to_owned()
            } else {
                format!("unknown field; the fields here are {known}")
            };
            self.errors.push(FieldError { pointer, detail });
        }
        self.errors
    }
}

/// Escapes a field name for a JSON pointer (RFC 6901, section 3).
pub(crate) fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A whole number within `range`; else `None`. `5.0` is whole (JSON Schema, Core, 4.2.2).
pub(crate) fn whole_number<T: TryFrom<u64> + PartialOrd>(
    value: &Value,
    range: &RangeInclusive<T>,
) -> Option<T> {
    let whole = || value.as_f64().filter(|number| number.fract() == 0.0)?.to_string().parse().ok();
    value
        .as_u64()
        .or_else(whole)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
}

/// Returns the JSON type of a value for error messages, with its article, such as `an array`.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The maximum number of patterns in one list.
pub(crate) const MAX_PATTERNS: usize = 100;

/// Takes a non-empty array of event type patterns. An invalid one is recorded as an error, and is missing in the result.
pub(crate) fn patterns(fields: &mut Fields, name: &'static str) -> Field<Vec<Pattern>> {
    fields.list(name, MAX_PATTERNS).and_then(|items| {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_pointer() {
        let mut fields =
            Fields::parse(br#"{"a": 1, "b": 70, "c": {"x/y": 1}, "typo": true}"#).unwrap();
        assert_eq!(fields.text("a", 10), Field::Absent);
        assert_eq!(fields.number::<u16>("b", 1..=64), Field::Absent);
        fields.texts("c", 5, 10);
        assert_eq!(fields.flag("d"), Field::Absent);
        let pointers: Vec<_> = {
            let problem = fields.finish().unwrap_err();
            let item = problem.as_item();
            let errors = item["error"]["errors"].as_array().unwrap().clone();
            errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(pointers, ["/a", "/b", "/c/x~1y", "/typo"]);
    }

    #[test]
    fn a_number_with_a_zero_fraction_is_whole() {
        for (text, number) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("5e1", Some(50)),
            ("5.5", None),
            ("1e300", None),
            ("-1.0", None),
        ] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(whole_number::<u16>(&value, &(1..=64)), number, "{text}");
        }
    }

    #[test]
    fn a_fault_in_a_nested_object_has_its_full_pointer() {
        let mut fields =
            Fields::parse(br#"{"a": {"b": 1, "typo": true}, "c": {"d": "x"}, "e": 1}"#).unwrap();
        assert_eq!(fields.object("a", |a| a.text("b", 10).value()), Field::Absent);
        assert_eq!(fields.object("c", |c| c.text("d", 10).value()), Field::Is("x".to_owned()));
        assert_eq!(fields.object("e", |e| e.text("f", 10).value()), Field::Absent);
        let item = fields.finish().unwrap_err().as_item();
        let errors = item["error"]["errors"].as_array().unwrap();
        let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].clone()).collect();
        assert_eq!(pointers, ["/a/b", "/a/typo", "/e"]);
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in ["", "[]", "1", "{", "null", "{\"a\":}", "\u{feff}{}"] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
