//! Events: as published, and as the log contains them.

pub mod event_type;
pub mod json_pointer;
pub mod matcher;
pub mod page;

use std::sync::Arc;

use bytes::Bytes;

use self::event_type::EventType;
use super::id::SubscriptionId;
use super::position::Position;
use super::time::UnixMillis;

/// The prefix of the types of log entries that change a subscription.
const SUBSCRIPTION_CHANGES: &str = "hookhub.subscription.";

/// An event that has no position in the log yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub event_type: EventType,
    /// The subscription that one of the hub's own entries is about.
    pub about: Option<SubscriptionId>,
    /// The time that the publisher states. `None`: the time at which the hub accepts the event.
    pub occurred_at: Option<UnixMillis>,
    /// One JSON value on one line.
    pub data: Bytes,
}

/// An event in the log. It never changes.
#[derive(Debug, Clone)]
pub struct Event {
    /// The position, which is also the public id.
    pub position: Position,
    pub tenant: Arc<str>,
    pub event_type: EventType,
    /// The subscription that one of the hub's own entries is about.
    pub about: Option<SubscriptionId>,
    pub timestamp: UnixMillis,
    /// The event as JSON on one line, `{"id", "type", "timestamp", "data"}`: the exact bytes that every attempt sends.
    pub body: Bytes,
}

impl Event {
    /// Builds the event that a reader of the log gets after `new` was appended at `position`.
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

    /// The subscription whose creation, change or deletion this entry records; `None`: it is another entry.
    pub fn changes_subscription(&self) -> Option<SubscriptionId> {
        self.about.filter(|_| self.event_type.as_str().starts_with(SUBSCRIPTION_CHANGES))
    }

    /// Returns the value of the member `data` in [`Event::body`], as JSON text that shares the memory of the body.
    pub fn data(&self) -> Bytes {
        let head = envelope(self.position, &self.event_type, self.timestamp, &Bytes::new());
        let start = head.len().saturating_sub(1);
        self.body.slice(start..self.body.len().saturating_sub(1).max(start))
    }
}

/// Builds the JSON body that receivers get, with the event's id, type, timestamp and data. `data` must be valid JSON.
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

/// Puts a valid JSON text on one line. It has line breaks only between tokens, so its value stays the same.
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

    fn event(data: &'static str) -> Event {
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
        let event = event(r#"{"a": 1}"#);
        let json: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(json["id"], event.position.to_string());
        assert_eq!(json["type"], "order.paid");
        assert_eq!(json["timestamp"], "2025-11-23T12:13:20.123Z");
        assert_eq!(json["data"]["a"], 1);
    }

    #[test]
    fn data_are_the_published_bytes() {
        assert_eq!(event(r#"{"n": 1.0e400, "n": 2}"#).data(), r#"{"n": 1.0e400, "n": 2}"#);
        assert_eq!(event("null").data(), "null");
    }

    proptest! {
        #[test]
        fn json_without_line_breaks_has_the_same_value(keys in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..5)) {
            let pretty = serde_json::to_string_pretty(&keys).unwrap();
            let line = without_line_breaks(&pretty);
            prop_assert!(!line.contains(&b'\n'));
            let back: std::collections::BTreeMap<String, String> = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(back, keys);
        }
    }
}
