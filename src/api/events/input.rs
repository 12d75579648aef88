//! What a publisher sends: one event, an array of them, or one a line.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::http::body::ContentType;
use crate::api::http::fields::{Fields, kind};
use crate::api::http::json::{DEEPEST, depth, not_json};
use crate::api::problem::{Code, FieldError, Problem};
use crate::domain::event::event_type::EventType;
use crate::domain::event::{NewEvent, without_line_breaks};
use crate::domain::time::UnixMillis;

/// How many events one request may bring.
pub(crate) const MOST_EVENTS: usize = 1_000;

/// A publisher's request.
#[derive(Debug)]
pub(crate) enum Publish {
    /// One event, good as it is.
    One(NewEvent),
    /// Several, each good or with its problem.
    Batch(Vec<Result<NewEvent, Problem>>),
}

impl Publish {
    /// Of the good events those remain so that `may` lets through.
    pub(crate) fn within(self, may: impl Fn(&str) -> Result<(), Problem>) -> Result<Self, Problem> {
        let checked = |event: NewEvent| may(event.event_type.as_str()).map(|()| event);
        Ok(match self {
            Self::One(event) => Self::One(checked(event)?),
            Self::Batch(items) => {
                Self::Batch(items.into_iter().map(|item| item.and_then(checked)).collect())
            }
        })
    }

    /// Which events are not good, in a form of its own.
    pub(crate) fn left_out(&self) -> Vec<u8> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Batch(items) => {
                let bad = items.iter().zip(0_u16..).filter(|(item, _)| item.is_err());
                bad.flat_map(|(_, index)| index.to_be_bytes()).collect()
            }
        }
    }
}

/// The shape of a good event; others are looked at again to say what is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default, borrow)]
    timestamp: Option<std::borrow::Cow<'a, str>>,
}

/// Reads a publish of events with at most `most_data` bytes of data each, as many as their tenant's may have.
pub(crate) fn read(
    content_type: ContentType,
    body: &[u8],
    most_data: u32,
) -> Result<Publish, Problem> {
    match content_type {
        ContentType::Ndjson => {
            let lines = body
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty());
            batch(lines.collect(), most_data)
        }
        ContentType::Json if body.trim_ascii_start().first() == Some(&b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_slice(body).map_err(|error| not_json(&error))?;
            batch(items.into_iter().map(|item| item.get().as_bytes()).collect(), most_data)
        }
        ContentType::Json => event(body, most_data).map(Publish::One),
    }
}

fn batch(items: Vec<&[u8]>, most_data: u32) -> Result<Publish, Problem> {
    if items.is_empty() {
        let detail = "expected at least one event".to_owned();
        return Err(Problem::invalid(vec![FieldError { pointer: String::new(), detail }]));
    }
    if items.len() > MOST_EVENTS {
        let detail =
            format!("a batch has at most {MOST_EVENTS} events, this one has {}", items.len());
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    Ok(Publish::Batch(items.into_iter().map(|item| event(item, most_data)).collect()))
}

fn event(body: &[u8], most_data: u32) -> Result<NewEvent, Problem> {
    // It would read an array of the fields in their order, too.
    let given: Result<Given<'_>, _> = match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body),
        _ => Err(serde::de::Error::custom("expected a JSON object")),
    };
    let given = given.map_err(|error| explain(body, &error))?;
    let data = given.data.get();
    if usize::try_from(most_data).is_ok_and(|most| data.len() > most) {
        let detail = format!(
            "data has {} bytes; at most {most_data} are taken of this tenant (its quota event_bytes, or \
             HOOKHUB_MAX_EVENT_BYTES)",
            data.len()
        );
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    let mut errors = Vec::new();
    if depth(data.as_bytes()) > DEEPEST {
        let detail = format!(
            "is nested deeper than {DEEPEST} levels, the most that common JSON readers take"
        );
        errors.push(fault("/data", detail));
    }
    let event_type =
        event_type(&given.event_type).map_err(|detail| errors.push(fault("/type", detail))).ok();
    let occurred_at = given.timestamp.map_or(Ok(None), |text| timestamp(&text).map(Some));
    let occurred_at = occurred_at.map_err(|detail| errors.push(fault("/timestamp", detail))).ok();
    match (event_type, occurred_at) {
        (Some(event_type), Some(occurred_at)) if errors.is_empty() => {
            Ok(NewEvent { event_type, about: None, occurred_at, data: without_line_breaks(data) })
        }
        _ => Err(Problem::invalid(errors)),
    }
}

fn fault(pointer: &str, detail: String) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail }
}

fn event_type(text: &str) -> Result<EventType, String> {
    let event_type: EventType = text.parse().map_err(|error| format!("{error}"))?;
    if event_type.is_reserved() {
        return Err("types that begin with \"hookhub.\" are the hub's own".into());
    }
    Ok(event_type)
}

fn timestamp(text: &str) -> Result<UnixMillis, String> {
    let wrong = "expected an RFC 3339 time with its offset, e.g. 2026-11-23T14:00:00.000Z";
    UnixMillis::parse(text).ok_or_else(|| wrong.into())
}

/// Finds out what is wrong with an event that does not have the right shape.
fn explain(body: &[u8], error: &serde_json::Error) -> Problem {
    let mut fields = match Fields::of(body) {
        Ok(fields) => fields,
        Err(problem) => return problem,
    };
    match fields.take("type") {
        Some(Value::String(text)) => {
            if let Err(detail) = event_type(&text) {
                fields.fault("type", detail);
            }
        }
        Some(other) => fields.fault("type", format!("expected a string, found {}", kind(&other))),
        None => fields.fault("type", "is missing; expected the event's type, e.g. \"order.paid\""),
    }
    if fields.take("data").is_none() {
        fields.fault("data", "is missing; expected any JSON value");
    }
    match fields.take("timestamp") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            if let Err(detail) = timestamp(&text) {
                fields.fault("timestamp", detail);
            }
        }
        Some(other) => {
            fields.fault("timestamp", format!("expected a string, found {}", kind(&other)));
        }
    }
    match fields.finish() {
        Err(problem) => problem,
        Ok(()) => Problem::invalid(vec![fault("", error.to_string())]),
    }
}

/// Events that are ready to be appended.
pub(crate) fn good(batch: &[Result<NewEvent, Problem>]) -> Vec<NewEvent> {
    batch.iter().filter_map(|item| item.as_ref().ok().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn one(body: &str) -> Result<NewEvent, String> {
        match read(ContentType::Json, body.as_bytes(), 100) {
            Ok(Publish::One(event)) => Ok(event),
            Ok(Publish::Batch(_)) => Err("a batch".into()),
            Err(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        assert_eq!(
            one(r#"{"type":"a.b","data":{"x": 1.00, "y":"\u00e9"}}"#).unwrap().data,
            r#"{"x": 1.00, "y":"\u00e9"}"#
        );
        assert_eq!(one(r#"{"data":null,"type":"a"}"#).unwrap().data, "null");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, named) in [
            ("{", "invalid_json"),
            ("1", "expected a JSON object"),
            (r#"{"data":1}"#, "/type"),
            (r#"{"type":"a"}"#, "/data"),
            (r#"{"type":"a b","data":1}"#, "/type"),
            (r#"{"type":1,"data":1}"#, "/type"),
            (r#"{"type":"a","data":1,"time":2}"#, "/time"),
            (r#"{"type":"a","data":1,"timestamp":"now"}"#, "/timestamp"),
            (r#"{"type":"hookhub.x","data":1}"#, "hub's own"),
            (r#"{"type":"a","type":"a","data":1}"#, "twice"),
        ] {
            let problem = one(body).unwrap_err();
            assert!(problem.contains(named), "{body}: {problem}");
        }
    }

    #[test]
    fn data_is_nested_so_deep_and_no_deeper() {
        let deep = |levels: usize| {
            format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        let read = |body: String| {
            matches!(read(ContentType::Json, body.as_bytes(), 1_000), Ok(Publish::One(_)))
        };
        assert!(read(deep(DEEPEST)));
        assert!(!read(deep(DEEPEST + 1)));
    }

    #[test]
    fn a_bad_item_does_not_stop_the_good_ones() {
        let body = b"{\"type\":\"a\",\"data\":1}\n\nnonsense\r\n{\"type\":\"b\",\"data\":2}";
        let Ok(Publish::Batch(items)) = read(ContentType::Ndjson, body, 100) else {
            panic!("a batch")
        };
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn the_fields_in_their_order_are_no_event() {
        for (content_type, body) in [
            (ContentType::Ndjson, r#"["a.b", {"x": 1}]"#),
            (ContentType::Json, r#"[["a.b", {"x": 1}]]"#),
        ] {
            let Ok(Publish::Batch(items)) = read(content_type, body.as_bytes(), 100) else {
                panic!("a batch")
            };
            let [Err(problem)] = items.as_slice() else { panic!("one that is refused") };
            assert!(problem.to_string().contains("found an array"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn good_items_stay_good_whatever_stands_between_them(
            items in prop::collection::vec(
                prop_oneof![
                    ".{0,12}".prop_map(|data| Ok(serde_json::json!(data).to_string())),
                    prop::collection::vec(any::<u8>(), 1..30).prop_map(Err),
                    r#"[\[\]{}:,"typeda1]{1,20}"#.prop_map(|bad| Err(bad.into_bytes())),
                ],
                1..12,
            ),
        ) {
            // On a line of its own each, so that none ends another.
            let line = |item: &Result<String, Vec<u8>>| match item {
                Ok(data) => format!(r#"{{"type":"a.b","data":{data}}}"#).into_bytes(),
                Err(bad) => bad.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect(),
            };
            let body = items.iter().map(line).collect::<Vec<_>>().join(&b"\n"[..]);
            let Ok(Publish::Batch(read)) = read(ContentType::Ndjson, &body, 100) else {
                prop_assert!(items.iter().all(Result::is_err));
                return Ok(());
            };
            let good: Vec<_> = read.into_iter().flatten().map(|event| event.data).collect();
            let mut expected = items.into_iter().flatten();
            prop_assert!(expected.all(|data| good.contains(&Bytes::from(data))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), lines in any::<bool>()) {
            let content_type = if lines { ContentType::Ndjson } else { ContentType::Json };
            if let Ok(Publish::One(event)) = read(content_type, &body, 100) {
                prop_assert!(serde_json::from_slice::<Value>(&event.data).is_ok());
            }
        }
    }
}
