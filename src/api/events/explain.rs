//! Why an event went where it did: for each subscription of its tenant whether it is for it, and what happened.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::caller::Caller;
use crate::api::auth::visibility;
use crate::api::deliveries::view::{DeliveryView, Record};
use crate::api::events;
use crate::api::http::query::Query;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::event::Event;
use crate::domain::event::event_type::{Pattern, is_reserved};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::version::Version;
use crate::domain::subscription::{Status, TEST_EVENT};
use crate::store::subscriptions::SubscriptionSummary;

/// `GET /v1/events/{id}/explain`.
pub(crate) async fn explain(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<SubscriptionId>("after")?;
    let event = events::find(&api, &caller, &path).await?;
    let found = api.store.select_summaries(&caller.tenant, after, i64::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<&SubscriptionSummary> = found.iter().take(limit.into()).collect();
    let ids: Vec<i64> = page.iter().map(|known| known.id.stored()).collect();
    let mut versions: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in api.store.select_versions(&ids).await? {
        versions.entry(id).or_default().push(version);
    }
    let record = Record::read(&api.store, &ids, &[event.position.stored()]).await?;
    let explained = |known: &&SubscriptionSummary| {
        let versions = versions.get(&known.id).map_or(&[][..], Vec::as_slice);
        let why = Why::of(&event, known, versions);
        let delivery = (why.matched() && known.is_webhook)
            .then(|| DeliveryView::of(known.id, &event, &record, known.deleted_at.is_some()));
        view(known, &why, delivery.as_ref())
    };
    let is_there = |known: &&&SubscriptionSummary| {
        visibility::is_there(&caller, versions.get(&known.id).map(Vec::as_slice))
    };
    let data: Vec<Value> = page.iter().filter(is_there).map(explained).collect();
    let next = page.last().filter(|_| has_more).map(|last| last.id.to_string());
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// Why an event is or is not for a subscription.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// This pattern, in force at its place, matches its type.
    Matched(Pattern),
    /// It is a test event for this one.
    Test,
    /// It is a test event for another one.
    TestForAnother,
    /// The subscription's history begins after it.
    Before,
    /// The subscription was deleted before it.
    Deleted,
    /// None of these patterns matches its type.
    NoPattern(Vec<String>),
    /// The same; and the hub's own events go only to those who name them.
    Reserved(Vec<String>),
}

impl Why {
    fn of(event: &Event, known: &SubscriptionSummary, versions: &[Version]) -> Self {
        let event_type = event.event_type.as_str();
        if known.deleted_at.is_some_and(|deleted| deleted < event.position) {
            return Self::Deleted;
        }
        if event_type == TEST_EVENT {
            return if event.about == Some(known.id) { Self::Test } else { Self::TestForAnother };
        }
        let in_force = versions.iter().rev().find(|version| version.since < event.position);
        let Some(version) = in_force else { return Self::Before };
        if let Some(pattern) = version.event_types.iter().find(|one| one.matches(event_type)) {
            return Self::Matched(pattern.clone());
        }
        let patterns = version.event_types.iter().map(ToString::to_string).collect();
        if is_reserved(event_type) { Self::Reserved(patterns) } else { Self::NoPattern(patterns) }
    }

    fn matched(&self) -> bool {
        matches!(self, Self::Matched(_) | Self::Test)
    }

    /// A stable code, and words.
    fn said(&self) -> (&'static str, String) {
        match self {
            Self::Matched(pattern) => {
                ("pattern_matches", format!("the pattern {pattern} matches its type"))
            }
            Self::Test => ("test_event", "it is a test event for this subscription".into()),
            Self::TestForAnother => {
                ("test_event_of_another", "it is a test event for another subscription".into())
            }
            Self::Before => (
                "before_the_subscription",
                "the subscription's history begins after it; create with from= to include it"
                    .into(),
            ),
            Self::Deleted => ("deleted", "the subscription was deleted before it".into()),
            Self::NoPattern(patterns) => (
                "no_pattern_matches",
                format!(
                    "none of the patterns in force at its place matches its type: {}",
                    patterns.join(", ")
                ),
            ),
            Self::Reserved(patterns) => (
                "reserved_type",
                format!(
                    "events of the hub's own go only to those who name them; in force at its place: {}",
                    patterns.join(", ")
                ),
            ),
        }
    }
}

fn view(known: &SubscriptionSummary, why: &Why, delivery: Option<&DeliveryView>) -> Value {
    let (reason, detail) = why.said();
    json!({
        "subscription": known.id.to_string(),
        "matched": why.matched(),
        "reason": reason,
        "detail": detail,
        "subscription_status": match known.deleted_at {
            Some(_) => "deleted",
            None => known.status.name(),
        },
        "parked": why.matched() && known.deleted_at.is_none() && known.status != Status::Active,
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

    fn why(event_type: &str, position: i64, deleted: Option<i64>) -> Why {
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
        Why::of(&event, &known, &[version(10, "a.*"), version(20, "b")])
    }

    #[test]
    fn the_reason_is_that_of_the_events_place() {
        assert_eq!(why("a.x", 15, None), Why::Matched("a.*".parse().unwrap()));
        assert_eq!(why("a.x", 25, None), Why::NoPattern(vec!["b".into()]));
        assert_eq!(why("a.x", 5, None), Why::Before);
        assert_eq!(why("b", 25, Some(22)), Why::Deleted);
        assert_eq!(why(TEST_EVENT, 25, None), Why::Test);
        assert_eq!(why("hookhub.gap", 25, None), Why::Reserved(vec!["b".into()]));
    }
}
