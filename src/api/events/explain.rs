//! Explaining where an event went: for each subscription, whether the event matches, why, and its delivery.

use actix_web::web;
use serde_json::{Value, json};

use super::read::find_event;
use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::{is_visible, versions_by_subscription};
use crate::api::deliveries::view::{DeliveryView, History};
use crate::api::http::input::Parameters;
use crate::api::http::query::Page;
use crate::api::problem::ApiResult;
use crate::domain::event::Event;
use crate::domain::event::event_type::{Pattern, is_reserved};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::version::Version;
use crate::domain::subscription::{Status, TEST_EVENT};
use crate::store::subscriptions::SubscriptionSummary;

/// `GET /v1/events/{id}/explain`: the tenant's subscriptions that the caller may see, deleted ones included, each with its
/// [`Reason`] and delivery. Oldest first.
pub(super) async fn explain(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<SubscriptionId>("after")?;
    let event = find_event(&context, &id).await?;
    let (store, tenant) = (&context.api.store, &context.caller.tenant);
    let found = store.select_summaries(tenant, after, i64::from(limit) + 1).await?;
    let page = Page::new(found, limit, |known| known.id.to_string());
    let ids: Vec<i64> = page.items.iter().map(|known| known.id.stored()).collect();
    let versions = versions_by_subscription(store, &ids).await?;
    let history = History::read(store, &ids, &[event.position.stored()]).await?;
    let explained = |known: &SubscriptionSummary| {
        let versions = versions.get(&known.id).map(Vec::as_slice);
        is_visible(&context.caller, versions).then(|| {
            let reason = Reason::new(&event, known, versions.unwrap_or_default());
            let delivery = (reason.is_match() && known.is_webhook)
                .then(|| DeliveryView::new(known.id, &event, &history, known.deleted_at.is_some()));
            view(known, &reason, delivery.as_ref())
        })
    };
    let data: Vec<Value> = page.items.iter().filter_map(explained).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// The reason why an event matches a subscription or not.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// This pattern matches. It was in force at the event.
    PatternMatches(Pattern),
    /// A test event for this subscription.
    TestEvent,
    /// A test event for another subscription.
    TestForAnother,
    /// The event is older than the subscription's history.
    BeforeSubscription,
    /// The subscription was deleted before the event.
    Deleted,
    /// None of these patterns, which were in force at the event, matches its type.
    NoPatternMatches(Vec<String>),
    /// As [`Self::NoPatternMatches`], for an event of the hub: only a pattern that begins with `hookhub.` matches it.
    ReservedType(Vec<String>),
}

impl Reason {
    /// `known`: the subscription; `versions`: its pattern versions, oldest first.
    fn new(event: &Event, known: &SubscriptionSummary, versions: &[Version]) -> Self {
        let event_type = event.event_type.as_str();
        if known.deleted_at.is_some_and(|deleted| deleted < event.position) {
            return Self::Deleted;
        }
        if event_type == TEST_EVENT {
            return if event.about == Some(known.id) {
                Self::TestEvent
            } else {
                Self::TestForAnother
            };
        }
        let valid = versions.iter().rev().find(|version| version.since < event.position);
        let Some(version) = valid else { return Self::BeforeSubscription };
        if let Some(pattern) = version.event_types.iter().find(|one| one.matches(event_type)) {
            return Self::PatternMatches(pattern.clone());
        }
        let patterns = version.event_types.iter().map(ToString::to_string).collect();
        if is_reserved(event_type) {
            Self::ReservedType(patterns)
        } else {
            Self::NoPatternMatches(patterns)
        }
    }

    fn is_match(&self) -> bool {
        matches!(self, Self::PatternMatches(_) | Self::TestEvent)
    }

    /// Codes are part of the HTTP contract.
    fn code(&self) -> &'static str {
        match self {
            Self::PatternMatches(_) => "pattern_matches",
            Self::TestEvent => "test_event",
            Self::TestForAnother => "test_event_of_another",
            Self::BeforeSubscription => "before_the_subscription",
            Self::Deleted => "deleted",
            Self::NoPatternMatches(_) => "no_pattern_matches",
            Self::ReservedType(_) => "reserved_type",
        }
    }

    /// Returns the reason as an English sentence for the response.
    fn detail(&self) -> String {
        match self {
            Self::PatternMatches(pattern) => format!("the pattern {pattern} matches the event's type"),
            Self::TestEvent => "a test event for this subscription".into(),
            Self::TestForAnother => "a test event for another subscription".into(),
            Self::BeforeSubscription => {
                "the event is older than the subscription's history; create the subscription with from= to include it"
                    .into()
            }
            Self::Deleted => "the subscription was deleted before the event".into(),
            Self::NoPatternMatches(patterns) => format!(
                "none of the patterns at the time of the event matches its type: {}",
                patterns.join(", ")
            ),
            Self::ReservedType(patterns) => format!(
                "the hub's own events match only patterns that begin with hookhub.; the patterns at the time: {}",
                patterns.join(", ")
            ),
        }
    }
}

fn view(known: &SubscriptionSummary, reason: &Reason, delivery: Option<&DeliveryView>) -> Value {
    json!({
        "subscription": known.id.to_string(),
        "matched": reason.is_match(),
        "reason": reason.code(),
        "detail": reason.detail(),
        "subscription_status": match known.deleted_at {
            Some(_) => "deleted",
            None => known.status.name(),
        },
        "parked": reason.is_match() && known.deleted_at.is_none() && known.status != Status::Active,
        "pulled": !known.is_webhook,
        "delivery": delivery,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::NewEvent;
    use crate::domain::event::event_type::EventType;
    use crate::domain::position::Position;

    fn reason(event_type: &str, position: i64, deleted: Option<i64>) -> Reason {
        let new = NewEvent {
            event_type: EventType::from_stored(event_type),
            about: Some(SubscriptionId::from_stored(1)),
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        let event = Event::at(Position::from_stored(position), &"t".into(), &new);
        let known = SubscriptionSummary {
            id: SubscriptionId::from_stored(1),
            status: Status::Active,
            is_webhook: true,
            deleted_at: deleted.map(Position::from_stored),
        };
        let version = |since: i64, pattern: &str| Version {
            since: Position::from_stored(since),
            event_types: [pattern.parse().unwrap()].into(),
        };
        Reason::new(&event, &known, &[version(10, "a.*"), version(20, "b")])
    }

    #[test]
    fn the_reason_depends_on_the_version_valid_at_the_event() {
        assert_eq!(reason("a.x", 15, None), Reason::PatternMatches("a.*".parse().unwrap()));
        assert_eq!(reason("a.x", 25, None), Reason::NoPatternMatches(vec!["b".into()]));
        assert_eq!(reason("a.x", 5, None), Reason::BeforeSubscription);
        assert_eq!(reason("b", 25, Some(22)), Reason::Deleted);
        assert_eq!(reason(TEST_EVENT, 25, None), Reason::TestEvent);
        assert_eq!(reason("hookhub.gap", 25, None), Reason::ReservedType(vec!["b".into()]));
    }
}
