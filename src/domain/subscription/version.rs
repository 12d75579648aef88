//! The event type patterns of a subscription over time, and the events that they select.

use std::sync::Arc;

use super::TEST_EVENT;
use crate::domain::event::Event;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

/// The patterns of a subscription in a range of the log.
#[derive(Debug, Clone)]
pub struct Version {
    /// The version applies to the events above this position, until the next version.
    pub since: Position,
    pub event_types: Arc<[Pattern]>,
}

/// Whether the subscription `id` of `tenant` gets the event: the patterns in force at its position decide.
///
/// `versions`: oldest first. A `hookhub.test` event matches only the subscription that it is about.
pub fn matches_event(
    event: &Event,
    id: SubscriptionId,
    tenant: &str,
    versions: &[Version],
) -> bool {
    if *event.tenant != *tenant {
        return false;
    }
    if event.event_type.as_str() == TEST_EVENT {
        return event.about == Some(id);
    }
    let in_force = versions.iter().rev().find(|version| version.since < event.position);
    in_force.is_some_and(|version| {
        version.event_types.iter().any(|pattern| pattern.matches(event.event_type.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::NewEvent;
    use crate::domain::event::event_type::EventType;

    fn event(position: i64, event_type: &str, about: Option<SubscriptionId>) -> Event {
        let new = NewEvent {
            event_type: EventType::from_stored(event_type),
            about,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Event::at(Position::from_stored(position), &"acme".into(), &new)
    }

    fn version(since: i64, pattern: &str) -> Version {
        Version {
            since: Position::from_stored(since),
            event_types: [pattern.parse().unwrap()].into(),
        }
    }

    #[test]
    fn an_event_is_matched_by_the_patterns_in_force_at_its_position() {
        let id = SubscriptionId::from_stored(1);
        let versions = [version(10, "a.*"), version(20, "b.*")];
        let matches = |position, event_type, tenant| {
            matches_event(&event(position, event_type, None), id, tenant, &versions)
        };
        assert!(!matches(10, "a.x", "acme"), "before the subscription existed");
        assert!(matches(11, "a.x", "acme"));
        assert!(matches(20, "a.x", "acme"), "a change applies above its own position");
        assert!(!matches(21, "a.x", "acme"));
        assert!(matches(21, "b.x", "acme"));
        assert!(!matches(21, "b.x", "other"));
    }

    #[test]
    fn a_test_event_matches_only_the_subscription_it_is_about() {
        let id = SubscriptionId::from_stored(1);
        let other = SubscriptionId::from_stored(2);
        let test = event(30, TEST_EVENT, Some(id));
        assert!(matches_event(&test, id, "acme", &[version(10, "a.*")]));
        assert!(!matches_event(&test, other, "acme", &[version(10, "hookhub.*")]));
    }
}
