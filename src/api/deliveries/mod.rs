//! What happened to events: deliveries and attempts, one more attempt, a test event.

pub(super) mod replays;
pub(super) mod view;

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use self::view::{DeliveryView, Record, State, attempt};
use super::auth::caller::Caller;
use super::auth::visibility;
use super::events;
use super::events::append::append;
use super::http::idempotency;
use super::http::limits;
use super::http::query::{Query, invalid};
use super::http::rate_limit_headers::insert_rate_limit;
use super::operator::audit;
use super::problem::{Code, Problem};
use super::state::Api;
use super::subscriptions;
use super::subscriptions::verification;
use crate::domain::event::event_type::EventType;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::command::RetryRequest;
use crate::domain::subscription::version::{Version, matches_event};
use crate::domain::subscription::{Subscription, TEST_EVENT};
use crate::store::deliveries::AttemptFilter;
use crate::store::idempotency::Kept;

/// How much of the log one list request looks at: events and bytes of a page, and pages.
const PAGE_LIMIT: PageLimit = PageLimit { events: 1_000, bytes: 4 << 20 };
const MOST_PAGES: usize = 10;

/// `GET /v1/events/{id}/deliveries`: one for each subscription that the event is for.
pub(crate) async fn of_event(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = usize::from(query.limit()?);
    let after = query.parsed::<SubscriptionId>("after")?;
    let event = events::find(&api, &caller, &path).await?;
    let mut subscriptions = api.store.history_of(&caller.tenant).await?;
    subscriptions.retain(|(id, deleted)| {
        after < Some(*id) && deleted.is_none_or(|deleted| deleted > event.position)
    });
    let ids: Vec<i64> = subscriptions.iter().map(|(id, _)| id.stored()).collect();
    let mut versions: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in api.store.versions(&ids).await? {
        versions.entry(id).or_default().push(version);
    }
    let mut meant: Vec<_> = subscriptions
        .into_iter()
        .filter(|(id, _)| {
            let versions = versions.get(id).map_or(&[][..], Vec::as_slice);
            matches_event(&event, *id, &caller.tenant, versions)
                && visibility::is_there(&caller, Some(versions))
        })
        .collect();
    let has_more = meant.len() > limit;
    meant.truncate(limit);
    let ids: Vec<i64> = meant.iter().map(|(id, _)| id.stored()).collect();
    let record = Record::read(&api.store, &ids, &[event.position.stored()]).await?;
    let view = |(id, deleted): &(SubscriptionId, Option<Position>)| {
        DeliveryView::of(*id, &event, &record, deleted.is_some())
    };
    let data: Vec<Value> = meant.iter().map(view).map(|view| json!(view)).collect();
    let next = meant.last().filter(|_| has_more).map(|(id, _)| id.to_string());
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `GET /v1/subscriptions/{id}/deliveries`: newest event first.
pub(crate) async fn of_subscription(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["status", "after", "limit"])?;
    let limit = usize::from(query.limit()?);
    let wanted = query.text("status").map(states_named).transpose()?;
    let below = query.parsed::<Position>("after")?.map_or(Position::END, Position::previous);
    let subscription = subscriptions::find(&api, &caller, &path).await?;
    let (mut data, mut cursor, mut has_more) = (Vec::new(), below.advanced(1), true);
    for _ in 0..MOST_PAGES {
        let (deliveries, scanned, complete) = page(&api, &subscription, cursor.previous()).await?;
        for (position, delivery) in deliveries {
            if data.len() == limit {
                let next = cursor.to_string();
                return Ok(query.page(&data, Some(&next), true));
            }
            cursor = position;
            if wanted.is_none_or(|wanted| wanted.contains(&delivery.status)) {
                data.push(json!(delivery));
            }
        }
        (cursor, has_more) = (scanned, !complete);
        if complete {
            break;
        }
    }
    let next = has_more.then(|| cursor.to_string());
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// The state of that name; `undelivered` are all that no receiver has taken.
fn states_named(name: &str) -> Result<&'static [State], Problem> {
    if name == "undelivered" {
        return Ok(&[State::Pending, State::Retrying, State::Exhausted]);
    }
    State::named(name).ok_or_else(|| {
        let names =
            "expected pending, retrying, delivered, exhausted, cancelled, unknown, or undelivered";
        invalid("status", names)
    })
}

/// The deliveries to a subscription of one page of the log, `up_to` and below.
async fn page(
    api: &Api,
    subscription: &Subscription,
    up_to: Position,
) -> Result<(Vec<(Position, DeliveryView)>, Position, bool), Problem> {
    let id = subscription.id;
    let versions = api.store.versions_of(id).await?;
    let after = versions.first().map_or(Position::START, |version| version.since);
    let scan = Scan { after, up_to, tenant: Some(&subscription.tenant), limit: PAGE_LIMIT };
    let stretch = api.store.read_before(scan).await?;
    let meant: Vec<&Arc<Event>> = stretch
        .events
        .iter()
        .filter(|event| matches_event(event, id, &subscription.tenant, &versions))
        .collect();
    let positions: Vec<i64> = meant.iter().map(|event| event.position.stored()).collect();
    let record = Record::read(&api.store, &[id.stored()], &positions).await?;
    let deliveries = meant
        .into_iter()
        .map(|event| (event.position, DeliveryView::of(id, event, &record, false)));
    Ok((deliveries.collect(), stretch.scanned, stretch.complete))
}

/// `GET /v1/attempts`: by event and number, newest first.
pub(crate) async fn attempts(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["subscription", "event", "status_class", "after", "limit"])?;
    let limit = query.limit()?;
    let status_class = match query.text("status_class") {
        None => None,
        Some("none") => Some(0),
        Some(class @ ("1xx" | "2xx" | "3xx" | "4xx" | "5xx")) => {
            class.get(..1).and_then(|digit| digit.parse().ok())
        }
        Some(_) => {
            return Err(invalid(
                "status_class",
                "expected 2xx, 3xx, 4xx, 5xx, or none for those not answered",
            ));
        }
    };
    let after = query.text("after").map(|text| {
        attempt_cursor(text).ok_or_else(|| {
            invalid("after", "expected the next_cursor of an earlier list of attempts")
        })
    });
    let filter =
        AttemptFilter { event: query.parsed("event")?, status_class, after: after.transpose()? };
    let found = api
        .store
        .list_attempts(&caller.tenant, query.parsed("subscription")?, filter, i64::from(limit) + 1)
        .await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<_> = found.iter().take(limit.into()).map(|known| &known.attempt).collect();
    let next = page
        .last()
        .filter(|_| has_more)
        .map(|last| format!("{}.{}.{}", last.position, last.number, last.subscription));
    let hidden = visibility::hidden(&api, &caller, page.iter().map(|one| one.subscription)).await?;
    let shown = page.into_iter().filter(|one| !hidden.contains(&one.subscription));
    let data: Vec<Value> = shown.map(attempt).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

fn attempt_cursor(text: &str) -> Option<(Position, u16, SubscriptionId)> {
    let mut parts = text.split('.');
    let cursor =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(cursor)
}

/// `POST /v1/deliveries/{subscription}/{event}/retry`: one more attempt, now.
pub(crate) async fn retry(
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let claim = idempotency::claim(&api, &caller, &request, b"").await?;
    let (subscription, event) = path.into_inner();
    if idempotency::first(&api, &caller, claim.as_ref()).await?.is_some() {
        let id = subscription.parse().map_err(|_bad| Problem::not_found("subscription"))?;
        let event = event.parse().map_err(|_bad| Problem::not_found("event"))?;
        visibility::must_be_there(&api, &caller, id).await?;
        return Ok(idempotency::replayed(&mut HttpResponse::Accepted()).json(asked_for(id, event)));
    }
    let subscription = subscriptions::find(&api, &caller, &subscription).await?;
    let event = events::find(&api, &caller, &event).await?;
    match subscription.definition.channel {
        Channel::Webhook(_) => {}
        Channel::Pull { .. } => {
            let detail = "the subscription is pulled from: its clients fetch the event, and there is nothing to repeat";
            return Err(Problem::new(Code::Conflict, detail));
        }
    }
    let (id, position) = (subscription.id, event.position);
    let versions = api.store.versions_of(id).await?;
    if !matches_event(&event, id, &caller.tenant, &versions) {
        return Err(Problem::not_found("delivery: the event is not for this subscription"));
    }
    let record = Record::read(&api.store, &[id.stored()], &[position.stored()]).await?;
    let delivery = DeliveryView::of(id, &event, &record, false);
    if delivery.status == State::Pending {
        return Err(Problem::new(
            Code::DeliveryPending,
            "the first attempt is still to come; there is nothing to repeat",
        ));
    }
    let said = RetryRequest {
        subscription: id.to_string(),
        event: position,
        attempts: u16::try_from(delivery.attempts()).unwrap_or(u16::MAX),
    };
    let answer = asked_for(id, position);
    let by = (&caller, &request);
    audit::note(&api, by, "delivery.retried", &id, answer.clone()).await?;
    let (_, mut response) =
        append(&api, &caller, claim, entry(id, RetryRequest::entry_type(), &json!(said))).await?;
    Ok(response.json(answer))
}

fn asked_for(id: SubscriptionId, event: Position) -> Value {
    json!({ "subscription": id.to_string(), "event": event.to_string() })
}

/// `POST /v1/subscriptions/{id}/test`: a `hookhub.test` event for that subscription alone.
pub(crate) async fn test(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let claim = idempotency::claim(&api, &caller, &request, b"").await?;
    if let Some(Kept { position: Some(position), .. }) =
        idempotency::first(&api, &caller, claim.as_ref()).await?
    {
        let id = path.parse().map_err(|_bad| Problem::not_found("subscription"))?;
        visibility::must_be_there(&api, &caller, id).await?;
        return Ok(idempotency::replayed(&mut HttpResponse::Accepted()).json(test_event(position)));
    }
    let subscription = subscriptions::find(&api, &caller, &path).await?;
    verification::must_not_be_awaited(&subscription)?;
    let rate = api.quotas.of(&caller.tenant).events_per_s;
    let standing = limits::admit(&api, &caller, rate, 1)?;
    let said = json!({ "subscription": subscription.id.to_string(), "message": "a test event, sent on request" });
    let entry = entry(subscription.id, EventType::from_stored(TEST_EVENT), &said);
    audit::note(&api, (&caller, &request), "subscription.tested", &subscription.id, said).await?;
    let (position, mut response) = append(&api, &caller, claim, entry).await?;
    if let Some(standing) = standing {
        insert_rate_limit(&mut response, standing);
    }
    Ok(response.json(test_event(position)))
}

fn test_event(position: Position) -> Value {
    json!({ "id": position.to_string(), "type": TEST_EVENT, "timestamp": position.time() })
}

/// An entry about a subscription.
pub(crate) fn entry(id: SubscriptionId, event_type: EventType, said: &Value) -> Vec<NewEvent> {
    let data = Bytes::from(said.to_string());
    vec![NewEvent { event_type, about: Some(id), occurred_at: None, data }]
}
