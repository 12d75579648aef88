//! The body of a publish: one event, an array of events, or one event per line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::http::body::ContentType;
use crate::api::http::fields::{Field, Fields};
use crate::api::http::json::{MAX_DEPTH, not_json};
use crate::api::problem::{ApiResult, Code, FieldError, Problem};
use crate::domain::event::event_type::EventType;
use crate::domain::event::{NewEvent, without_line_breaks};
use crate::domain::time::UnixMillis;

/// The maximum number of events in one request.
const MAX_EVENTS: usize = 1_000;

#[derive(Debug)]
pub(crate) enum Publish {
    /// A single event, which is valid.
    One(NewEvent),
    /// A batch. Each item is a valid event or its problem.
    Batch(Vec<ApiResult<NewEvent>>),
}

impl Publish {
    /// Applies `check` to the type of each event. If it fails in a batch, the event becomes an invalid item; for a
    /// single event, this method fails.
    pub(crate) fn permitted_by(self, check: impl Fn(&str) -> ApiResult<()>) -> ApiResult<Self> {
        let checked = |event: NewEvent| check(event.event_type.as_str()).map(|()| event);
        Ok(match self {
            Self::One(event) => Self::One(checked(event)?),
            Self::Batch(items) => {
                Self::Batch(items.into_iter().map(|item| item.and_then(checked)).collect())
            }
        })
    }

    /// Returns the indexes of the invalid items as bytes. They become part of the fingerprint of the request.
    pub(crate) fn invalid_indexes(&self) -> Vec<u8> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Batch(items) => {
                let invalid = items.iter().zip(0_u16..).filter(|(item, _)| item.is_err());
                invalid.flat_map(|(_, index)| index.to_be_bytes()).collect()
            }
        }
    }

    pub(crate) fn valid_events(&self) -> Vec<NewEvent> {
        match self {
            Self::One(event) => vec![event.clone()],
            Self::Batch(items) => {
                items.iter().filter_map(|item| item.as_ref().ok().cloned()).collect()
            }
        }
    }
}

/// The shape of a valid event. An event that does not fit is parsed again, field by field, to find the faults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventBody<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default, borrow)]
    timestamp: Option<Cow<'a, str>>,
}

/// `max_data_bytes` limits the data of each event. In a batch, an invalid event is kept with its error. Fails for an
/// invalid single event, an array that is not JSON, and a batch without events or with too many.
pub(crate) fn parse(
    content_type: ContentType,
    body: &[u8],
    max_data_bytes: u32,
) -> ApiResult<Publish> {
    match content_type {
        ContentType::Ndjson => {
            let lines = body
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty());
            batch(lines.collect(), max_data_bytes)
        }
        ContentType::Json if body.trim_ascii_start().first() == Some(&b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_slice(body).map_err(|error| not_json(&error))?;
            batch(items.into_iter().map(|item| item.get().as_bytes()).collect(), max_data_bytes)
        }
        ContentType::Json => event(body, max_data_bytes).map(Publish::One),
    }
}

/// An invalid item is kept with its error. 422 without items, 413 with too many.
fn batch(items: Vec<&[u8]>, max_data_bytes: u32) -> ApiResult<Publish> {
    if items.is_empty() {
        return Err(Problem::invalid_field("", "expected at least one event"));
    }
    if items.len() > MAX_EVENTS {
        let detail =
            format!("the batch has {} events; the limit is {MAX_EVENTS} per request", items.len());
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    Ok(Publish::Batch(items.into_iter().map(|item| event(item, max_data_bytes)).collect()))
}

/// 400 if it is not JSON, 413 if the data has more than `max_data_bytes` bytes, 422 for an invalid field.
fn event(body: &[u8], max_data_bytes: u32) -> ApiResult<NewEvent> {
    // serde would also accept an array with the field values in order.
    let parsed: Result<EventBody<'_>, _> = match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body),
        _ => Err(serde::de::Error::custom("expected a JSON object")),
    };
    let parsed = parsed.map_err(|error| explain(body, &error))?;
    let data = parsed.data.get();
    if usize::try_from(max_data_bytes).is_ok_and(|max| data.len() > max) {
        let detail = format!(
            "data has {} bytes; the limit of this tenant is {max_data_bytes} bytes (quota event_bytes, or \
             HOOKHUB_MAX_EVENT_BYTES)",
            data.len()
        );
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    let mut errors = Vec::new();
    if nesting(data) > MAX_DEPTH {
        let detail = format!("is nested deeper than {MAX_DEPTH} levels");
        errors.push(FieldError::new("/data", detail));
    }
    let event_type = event_type(&parsed.event_type)
        .map_err(|detail| errors.push(FieldError::new("/type", detail)))
        .ok();
    let occurred_at = parsed.timestamp.map_or(Ok(None), |text| timestamp(&text).map(Some));
    let occurred_at =
        occurred_at.map_err(|detail| errors.push(FieldError::new("/timestamp", detail))).ok();
    match (event_type, occurred_at) {
        (Some(event_type), Some(occurred_at)) if errors.is_empty() => {
            Ok(NewEvent { event_type, about: None, occurred_at, data: without_line_breaks(data) })
        }
        _ => Err(Problem::invalid(errors)),
    }
}

/// The deepest nesting of arrays and objects in valid JSON. Needed because `serde_json` does not limit the depth of a
/// `RawValue`.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
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

/// Parses an event type. Reserved types (`hookhub.*`) are invalid. The error is a text for the client.
fn event_type(text: &str) -> Result<EventType, String> {
    let event_type: EventType = text.parse().map_err(|error| format!("{error}"))?;
    if event_type.is_reserved() {
        return Err("types that begin with \"hookhub.\" are reserved for the hub".into());
    }
    Ok(event_type)
}

/// Parses an RFC 3339 time. The error is a text for the client.
fn timestamp(text: &str) -> Result<UnixMillis, String> {
    let expected = "expected an RFC 3339 time with its offset, e.g. 2026-11-23T14:00:00.000Z";
    UnixMillis::parse(text).ok_or_else(|| expected.into())
}

/// The problem of a body that is not an [`EventBody`], with one error for each invalid field. `error`: from serde, used
/// if no field is at fault.
fn explain(body: &[u8], error: &serde_json::Error) -> Problem {
    let mut fields = match Fields::parse(body) {
        Ok(fields) => fields,
        Err(problem) => return problem,
    };
    if !fields.has("type") {
        fields.fault("type", "is missing; expected the event's type, e.g. \"order.paid\"");
    }
    if fields.parsed_by("type", event_type) == Field::Null {
        fields.fault("type", "expected a string, found null");
    }
    if fields.take("data").is_none() {
        fields.fault("data", "is missing; expected any JSON value");
    }
    fields.parsed_by("timestamp", timestamp);
    match fields.finish() {
        Err(problem) => problem,
        Ok(()) => Problem::invalid_field("", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn one(body: &str) -> Result<NewEvent, String> {
        match parse(ContentType::Json, body.as_bytes(), 100) {
            Ok(Publish::One(event)) => Ok(event),
            Ok(Publish::Batch(_)) => Err("a batch".into()),
            Err(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn data_keeps_its_exact_text() {
        assert_eq!(
            one(r#"{"type":"a.b","data":{"x": 1.00, "y":"\u00e9"}}"#).unwrap().data,
            r#"{"x": 1.00, "y":"\u00e9"}"#
        );
        assert_eq!(one(r#"{"data":null,"type":"a"}"#).unwrap().data, "null");
    }

    #[test]
    fn an_invalid_event_is_refused_with_the_field_at_fault() {
        for (body, named) in [
            ("{", "invalid_json"),
            ("1", "expected a JSON object"),
            (r#"{"data":1}"#, "/type"),
            (r#"{"type":"a"}"#, "/data"),
            (r#"{"type":"a b","data":1}"#, "/type"),
            (r#"{"type":1,"data":1}"#, "/type"),
            (r#"{"type":"a","data":1,"time":2}"#, "/time"),
            (r#"{"type":"a","data":1,"timestamp":"now"}"#, "/timestamp"),
            (r#"{"type":"hookhub.x","data":1}"#, "reserved"),
            (r#"{"type":"a","type":"a","data":1}"#, "twice"),
        ] {
            let problem = one(body).unwrap_err();
            assert!(problem.contains(named), "{body}: {problem}");
        }
    }

    #[test]
    fn data_deeper_than_the_limit_is_refused() {
        let deep = |levels: usize| {
            format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        let is_valid = |body: String| {
            matches!(parse(ContentType::Json, body.as_bytes(), 1_000), Ok(Publish::One(_)))
        };
        assert!(is_valid(deep(MAX_DEPTH)));
        assert!(!is_valid(deep(MAX_DEPTH + 1)));
    }

    #[test]
    fn an_invalid_item_does_not_refuse_the_valid_ones() {
        let body = b"{\"type\":\"a\",\"data\":1}\n\nnonsense\r\n{\"type\":\"b\",\"data\":2}";
        let Ok(Publish::Batch(items)) = parse(ContentType::Ndjson, body, 100) else {
            panic!("a batch")
        };
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn an_array_of_field_values_is_not_an_event() {
        for (content_type, body) in [
            (ContentType::Ndjson, r#"["a.b", {"x": 1}]"#),
            (ContentType::Json, r#"[["a.b", {"x": 1}]]"#),
        ] {
            let Ok(Publish::Batch(items)) = parse(content_type, body.as_bytes(), 100) else {
                panic!("a batch")
            };
            let [Err(problem)] = items.as_slice() else { panic!("one refused item") };
            assert!(problem.to_string().contains("found an array"), "{problem}");
        }
    }

    #[test]
    fn nesting_ignores_brackets_in_strings() {
        assert_eq!(nesting(r#"{"a[[[": ["\\\"[[", {"b": 1}], "c": []}"#), 3);
        assert_eq!(nesting("1"), 0);
    }

    proptest! {
        #[test]
        fn valid_items_are_accepted_between_any_invalid_ones(
            items in prop::collection::vec(
                prop_oneof![
                    ".{0,12}".prop_map(|data| Ok(serde_json::json!(data).to_string())),
                    prop::collection::vec(any::<u8>(), 1..30).prop_map(Err),
                    r#"[\[\]{}:,"typeda1]{1,20}"#.prop_map(|bad| Err(bad.into_bytes())),
                ],
                1..12,
            ),
        ) {
            // One item per line, so that no item ends another.
            let to_line = |item: &Result<String, Vec<u8>>| match item {
                Ok(data) => format!(r#"{{"type":"a.b","data":{data}}}"#).into_bytes(),
                Err(bytes) => bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect(),
            };
            let body = items.iter().map(to_line).collect::<Vec<_>>().join(&b"\n"[..]);
            let Ok(Publish::Batch(parsed)) = parse(ContentType::Ndjson, &body, 100) else {
                prop_assert!(items.iter().all(Result::is_err));
                return Ok(());
            };
            let accepted: Vec<_> = parsed.into_iter().flatten().map(|event| event.data).collect();
            let mut expected = items.into_iter().flatten();
            prop_assert!(expected.all(|data| accepted.contains(&Bytes::from(data))));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), lines in any::<bool>()) {
            let content_type = if lines { ContentType::Ndjson } else { ContentType::Json };
            if let Ok(Publish::One(event)) = parse(content_type, &body, 100) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&event.data).is_ok());
            }
        }
    }
}
