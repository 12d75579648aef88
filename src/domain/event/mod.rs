//! Events: what a publisher says, and what everyone reads.

pub mod event_type;
pub mod json_pointer;
pub mod matcher;
pub mod page;

use std::sync::Arc;

use bytes::Bytes;

use self::event_type::EventType;
use super::id::SubscriptionId;
use super::position::Position;
use super::subscription::SUBSCRIPTION_CHANGES;
use super::time::UnixMillis;

/// An event that has no place in the log yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its type.
    pub event_type: EventType,
    /// The subscription it is about, for the hub's own entries.
    pub about: Option<SubscriptionId>,
    /// When it happened, as its publisher says; without it, when it was accepted.
    pub occurred_at: Option<UnixMillis>,
    /// One JSON value on one line.
    pub data: Bytes,
}

/// An event in the log; never changes.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the log, which is its id.
    pub position: Position,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its type.
    pub event_type: EventType,
    /// The subscription it is about, for the hub's own entries.
    pub about: Option<SubscriptionId>,
    /// When it happened.
    pub timestamp: UnixMillis,
    /// The event as everyone reads it, `{"id", "type", "timestamp", "data"}` on one line: the very bytes that each
    /// attempt sends.
    pub body: Bytes,
}

impl Event {
    /// The event that `new` becomes at `position`.
    pub fn at(position: Position, tenant: &Arc<str>, new: &NewEvent) -> Self {
        let timestamp = new.occurred_at.unwrap_or_else(|| position.time());
        Self {
            position,
            tenant: Arc::clone(tenant),
            event_type: new.event_type.clone(),
            about: new.about,
            timestamp,
            body: envelope(position, &new.event_type, timestamp, &new.data),
        }
    }

    /// The subscription of whose change this is the log's entry.
    pub fn changes_subscription(&self) -> Option<SubscriptionId> {
        self.about.filter(|_| self.event_type.as_str().starts_with(SUBSCRIPTION_CHANGES))
    }

    /// Just the `data` within [`Event::body`].
    pub fn data(&self) -> Bytes {
        let head = envelope(self.position, &self.event_type, self.timestamp, &Bytes::new());
        let start = head.len().saturating_sub(1);
        self.body.slice(start..self.body.len().saturating_sub(1).max(start))
    }
}

/// Builds the body. Types hold no character that JSON escapes, and data is JSON already.
fn envelope(
    position: Position,
    event_type: &EventType,
    timestamp: UnixMillis,
    data: &Bytes,
) -> Bytes {
    let head =
        format!(r#"{{"id":"{position}","type":"{event_type}","timestamp":"{timestamp}","data":"#);
    let mut body = Vec::with_capacity(head.len() + data.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(data);
    body.push(b'}');
    Bytes::from(body)
}

/// Takes the line breaks between a JSON text's tokens away, so that it fits on one line of a stream; strings cannot
/// hold any. A text without line breaks is left as its publisher wrote it.
pub fn without_line_breaks(json: &str) -> Bytes {
    if !json.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        return Bytes::copy_from_slice(json.as_bytes());
    }
    json.bytes().filter(|byte| *byte != b'\n' && *byte != b'\r').collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(data: &'static str) -> Event {
        let new = NewEvent {
            event_type: "order.paid".parse().unwrap(),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(data.as_bytes()),
        };
        Event::at(Position::from_stored(1_763_900_000_123 << 20), &"default".into(), &new)
    }

    #[test]
    fn the_body_is_the_event_as_json() {
        let event = placed(r#"{"a": 1}"#);
        let json: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(json["id"], event.position.to_string());
        assert_eq!(json["type"], "order.paid");
        assert_eq!(json["timestamp"], "2025-11-23T12:13:20.123Z");
        assert_eq!(json["data"]["a"], 1);
    }

    #[test]
    fn data_is_the_publishers_bytes() {
        assert_eq!(placed(r#"{"n": 1.0e400, "n": 2}"#).data(), r#"{"n": 1.0e400, "n": 2}"#);
        assert_eq!(placed("null").data(), "null");
    }

    proptest! {
        #[test]
        fn pretty_json_on_one_line_means_the_same(keys in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..5)) {
            let pretty = serde_json::to_string_pretty(&keys).unwrap();
            let line = without_line_breaks(&pretty);
            prop_assert!(!line.contains(&b'\n'));
            let back: std::collections::BTreeMap<String, String> = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(back, keys);
        }
    }
}
