//! Reading a JSON object field by field, so that every fault is named at once and no typo is ignored.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::json;
use crate::api::problem::{FieldError, Problem};

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Field<T> {
    /// Nothing: it is not there, or was faulty, which has been noted.
    #[default]
    Absent,
    /// Null: the default is wanted.
    Null,
    /// This.
    Is(T),
}

impl<T> Field<T> {
    /// What it says, if it is not the default.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// What it says; `current` where it is not there.
    pub(crate) fn or(self, current: impl Into<Option<T>>) -> Self {
        match (self, current.into()) {
            (Self::Absent, Some(current)) => Self::Is(current),
            (given, _) => given,
        }
    }
}

/// A JSON object on its way to being understood. Fields are taken out of it; what is left at the end is unknown.
pub(crate) struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a body that must be a JSON object.
    pub(crate) fn of(body: &[u8]) -> Result<Self, Problem> {
        match json::read(body)? {
            Value::Object(left) => Ok(Self { left, known: Vec::new(), errors: Vec::new() }),
            other => Err(Problem::invalid(vec![FieldError {
                pointer: String::new(),
                detail: format!("expected a JSON object, found {}", kind(&other)),
            }])),
        }
    }

    /// Whether a field is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Whether a field says nothing: it is not there, or null.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.left.get(name).is_none_or(Value::is_null)
    }

    /// Takes a field; `None` when it is not there, `Some(Null)` when it is null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    /// Notes a fault.
    pub(crate) fn fault(&mut self, pointer: impl Display, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/{pointer}"), detail: detail.into() });
    }

    /// Whether a fault has been noted.
    pub(crate) fn is_faulty(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Leaves the fields that are left unread: what they should be cannot be said.
    pub(crate) fn ignore_the_rest(&mut self) {
        self.left.clear();
    }

    /// Takes a string of at most `longest` characters.
    pub(crate) fn text(&mut self, name: &'static str, longest: usize) -> Field<String> {
        self.read(name, |value| match value {
            Value::String(text) if text.contains('\0') => {
                Err("may not hold the character U+0000".into())
            }
            Value::String(text) if text.chars().count() > longest => {
                Err(format!("has at most {longest} characters"))
            }
            Value::String(text) => Ok(text),
            other => Err(format!("expected a string, found {}", kind(&other))),
        })
    }

    /// Takes a string and reads it as a `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Field<T> {
        self.read(name, |value| match value {
            Value::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
            other => Err(format!("expected a string, found {}", kind(&other))),
        })
    }

    /// Takes a whole number within `range`.
    pub(crate) fn number<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Field<T>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        self.read(name, |value| whole_number(&value, &range).ok_or(expected))
    }

    /// Takes a boolean.
    pub(crate) fn flag(&mut self, name: &'static str) -> Field<bool> {
        self.read(name, |value| {
            value.as_bool().ok_or_else(|| format!("expected true or false, found {}", kind(&value)))
        })
    }

    /// Takes an array of at most `most` items.
    pub(crate) fn list(&mut self, name: &'static str, most: usize) -> Field<Vec<Value>> {
        self.read(name, |value| match value {
            Value::Array(items) if items.len() > most => Err(format!("has at most {most} items")),
            Value::Array(items) => Ok(items),
            other => Err(format!("expected an array, found {}", kind(&other))),
        })
    }

    /// Takes an object whose values are all strings, with at most `most` members of at most `longest` characters.
    pub(crate) fn texts(
        &mut self,
        name: &'static str,
        most: usize,
        longest: usize,
    ) -> Field<BTreeMap<String, String>> {
        let members = self.read(name, |value| match value {
            Value::Object(members) if members.len() > most => {
                Err(format!("has at most {most} members"))
            }
            Value::Object(members) => Ok(members),
            other => Err(format!("expected an object of strings, found {}", kind(&other))),
        });
        let members = match members {
            Field::Is(members) => members,
            Field::Null => return Field::Null,
            Field::Absent => return Field::Absent,
        };
        let fits = |text: &str| text.chars().count() <= longest && !text.contains('\0');
        let mut texts = BTreeMap::new();
        for (key, value) in members {
            match value {
                Value::String(text) if fits(&key) && fits(&text) => {
                    texts.insert(key, text);
                }
                _ => {
                    let pointer = format!("{name}/{}", pointer_part(&key));
                    self.fault(
                        pointer,
                        format!("expected a string of at most {longest} characters without U+0000"),
                    );
                }
            }
        }
        Field::Is(texts)
    }

    /// Takes an object and has its fields taken out of it by `read`, which gives nothing when it has noted a fault.
    pub(crate) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Field<T> {
        let left = self.read(name, |value| match value {
            Value::Object(left) => Ok(left),
            other => Err(format!("expected an object, found {}", kind(&other))),
        });
        let left = match left {
            Field::Is(left) => left,
            Field::Null => return Field::Null,
            Field::Absent => return Field::Absent,
        };
        let mut inner = Self { left, known: Vec::new(), errors: Vec::new() };
        let read = read(&mut inner);
        let faults = inner.close();
        if let (Some(read), true) = (read, faults.is_empty()) {
            return Field::Is(read);
        }
        self.errors.extend(faults.into_iter().map(|FieldError { pointer, detail }| FieldError {
            pointer: format!("/{name}{}", if pointer == "/" { "" } else { &pointer }),
            detail,
        }));
        Field::Absent
    }

    /// Takes a field and reads what it says, noting the fault if that fails.
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
                Err(detail) => {
                    self.fault(name, detail);
                    Field::Absent
                }
            },
        }
    }

    /// Ends the reading: faults if there were any, and if any field is left.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let errors = self.close();
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }

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

/// A name as part of a JSON pointer (RFC 6901, section 3).
pub(crate) fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A whole number within `range`. To JSON `5.0` is the same number as `5` (JSON Schema, Core, 4.2.2).
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

/// What JSON calls a value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_with_its_place() {
        let mut fields =
            Fields::of(br#"{"a": 1, "b": 70, "c": {"x/y": 1}, "typo": true}"#).unwrap();
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
    fn a_number_is_whole_by_its_value() {
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
    fn a_fault_within_an_object_is_named_with_its_place() {
        let mut fields =
            Fields::of(br#"{"a": {"b": 1, "typo": true}, "c": {"d": "x"}, "e": 1}"#).unwrap();
        assert_eq!(fields.object("a", |a| a.text("b", 10).value()), Field::Absent);
        assert_eq!(fields.object("c", |c| c.text("d", 10).value()), Field::Is("x".to_owned()));
        assert_eq!(fields.object("e", |e| e.text("f", 10).value()), Field::Absent);
        let item = fields.finish().unwrap_err().as_item();
        let errors = item["error"]["errors"].as_array().unwrap();
        let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].clone()).collect();
        assert_eq!(pointers, ["/a/b", "/a/typo", "/e"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "1", "{", "null", "{\"a\":}", "\u{feff}{}"] {
            assert!(Fields::of(body.as_bytes()).is_err(), "{body}");
        }
    }
}
