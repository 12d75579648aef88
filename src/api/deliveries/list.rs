//! Lists of deliveries, by event or subscription, and of attempts.

use std::sync::Arc;

use actix_web::web;
use serde_json::{Value, json};

use super::view::{DeliveryState, DeliveryView, History, attempt_view};
use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::{invisible, is_visible, versions_by_subscription};
use crate::api::events::read::find_event;
use crate::api::http::input::Parameters;
use crate::api::http::query::{Page, Query, invalid};
use crate::api::problem::ApiResult;
use crate::api::state::Api;
use crate::api::subscriptions::read::find_subscription;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::version::matches_event;
use crate::store::deliveries::AttemptFilter;

/// `GET /v1/events/{id}/deliveries`: the event's deliveries to webhook subscriptions that the caller may see, oldest
/// subscription first. Includes subscriptions that were deleted after the event.
pub(super) async fn of_event(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<SubscriptionId>("after")?;
    let event = find_event(&context, &id).await?;
    let (store, caller) = (&context.api.store, &context.caller);
    let mut subscriptions = store.select_webhook_history(&caller.tenant).await?;
    subscriptions.retain(|(id, deleted)| {
        after < Some(*id) && deleted.is_none_or(|deleted| deleted > event.position)
    });
    let ids: Vec<i64> = subscriptions.iter().map(|(id, _)| id.stored()).collect();
    let versions = versions_by_subscription(store, &ids).await?;
    subscriptions.retain(|(id, _)| {
        let versions = versions.get(id).map_or(&[][..], Vec::as_slice);
        matches_event(&event, *id, &caller.tenant, versions) && is_visible(caller, Some(versions))
    });
    let page = Page::new(subscriptions, limit, |(id, _)| id.to_string());
    let ids: Vec<i64> = page.items.iter().map(|(id, _)| id.stored()).collect();
    let history = History::read(store, &ids, &[event.position.stored()]).await?;
    let view = |(id, deleted): &(SubscriptionId, Option<_>)| {
        json!(DeliveryView::new(*id, &event, &history, deleted.is_some()))
    };
    let data: Vec<Value> = page.items.iter().map(view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// The maximum size of one page of the log that a request scans.
const PAGE_LIMIT: PageLimit = PageLimit { events: 1_000, bytes: 4 << 20 };
/// The maximum number of log pages that a request scans. The list may end early then, with `has_more`.
const MAX_PAGES: usize = 10;

/// `GET /v1/subscriptions/{id}/deliveries`: newest event first. Scans at most [`MAX_PAGES`] pages of the log, so a page
/// may be short although more follow.
pub(super) async fn of_subscription(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
    let query = parameters.known(&["status", "after", "limit"])?;
    let limit = usize::from(query.limit()?);
    let states = query.text("status").map(states_named).transpose()?;
    let below = query.parsed::<Position>("after")?.map_or(Position::END, Position::previous);
    let subscription = find_subscription(&context, &id).await?;
    let (mut data, mut cursor, mut has_more) = (Vec::new(), below.advanced(1), true);
    for _ in 0..MAX_PAGES {
        let page = scan(&context.api, &subscription, cursor.previous()).await?;
        for (position, delivery) in page.deliveries {
            if data.len() == limit {
                return Ok(query.list(&data, Some(&cursor.to_string())));
            }
            cursor = position;
            if states.as_ref().is_none_or(|states| states.contains(&delivery.status)) {
                data.push(json!(delivery));
            }
        }
        (cursor, has_more) = (page.scanned, !page.is_last);
        if page.is_last {
            break;
        }
    }
    let next = has_more.then(|| cursor.to_string());
    Ok(query.list(&data, next.as_deref()))
}

/// The delivery states for a value of `status`: `undelivered` selects pending, retrying and exhausted; each other name
/// selects one state.
fn states_named(name: &str) -> ApiResult<Vec<DeliveryState>> {
    if name == "undelivered" {
        return Ok(vec![DeliveryState::Pending, DeliveryState::Retrying, DeliveryState::Exhausted]);
    }
    name.parse().map(|state| vec![state]).map_err(|_unknown| {
        let names =
            "expected pending, retrying, delivered, exhausted, cancelled, unknown, or undelivered";
        invalid("status", names)
    })
}

/// The deliveries to a subscription of the events on one page of the log.
struct ScannedPage {
    /// Newest event first.
    deliveries: Vec<(Position, DeliveryView)>,
    /// The lowest position that was scanned.
    scanned: Position,
    /// Whether no older event can match the subscription.
    is_last: bool,
}

/// Reads one page of the log backwards from `up_to` (inclusive), and returns the subscription's deliveries in it. The
/// result may be empty although more follow.
async fn scan(api: &Api, subscription: &Subscription, up_to: Position) -> ApiResult<ScannedPage> {
    let id = subscription.id;
    let versions = api.store.select_versions_of(id).await?;
    let after = versions.first().map_or(Position::START, |version| version.since);
    let scan = Scan { after, up_to, tenant: Some(&subscription.tenant), limit: PAGE_LIMIT };
    let stretch = api.store.read_before(scan).await?;
    let matching: Vec<&Arc<Event>> = stretch
        .events
        .iter()
        .filter(|event| matches_event(event, id, &subscription.tenant, &versions))
        .collect();
    let positions: Vec<i64> = matching.iter().map(|event| event.position.stored()).collect();
    let history = History::read(&api.store, &[id.stored()], &positions).await?;
    let deliveries = matching
        .into_iter()
        .map(|event| (event.position, DeliveryView::new(id, event, &history, false)))
        .collect();
    Ok(ScannedPage { deliveries, scanned: stretch.scanned, is_last: stretch.complete })
}

/// `GET /v1/attempts`: newest first by event and attempt number. Attempts for invisible subscriptions are left out, so
/// a page may be short although more follow.
pub(super) async fn attempts(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&["subscription", "event", "status_class", "after", "limit"])?;
    let limit = query.limit()?;
    let status_class = parse_status_class(&query)?;
    let after = query.text("after").map(|text| {
        parse_cursor(text).ok_or_else(|| {
            invalid("after", "expected the next_cursor of an earlier list of attempts")
        })
    });
    let filter =
        AttemptFilter { event: query.parsed("event")?, status_class, after: after.transpose()? };
    let subscription = query.parsed("subscription")?;
    let (api, caller) = (&context.api, &context.caller);
    let found = api
        .store
        .select_attempts(&caller.tenant, subscription, filter, i64::from(limit) + 1)
        .await?;
    let page = Page::new(found, limit, |last| {
        let last = &last.attempt;
        format!("{}.{}.{}", last.position, last.number, last.subscription)
    });
    let attempts = || page.items.iter().map(|known| &known.attempt);
    let invisible = invisible(api, caller, attempts().map(|one| one.subscription)).await?;
    let visible = attempts().filter(|one| !invisible.contains(&one.subscription));
    let data: Vec<Value> = visible.map(attempt_view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// Parses the query parameter `status_class` to its first digit: 4 for `4xx`. `none`, for attempts without a response,
/// becomes 0.
fn parse_status_class(query: &Query) -> ApiResult<Option<i16>> {
    match query.text("status_class") {
        None => Ok(None),
        Some("none") => Ok(Some(0)),
        Some(class @ ("1xx" | "2xx" | "3xx" | "4xx" | "5xx")) => {
            Ok(class.get(..1).and_then(|digit| digit.parse().ok()))
        }
        Some(_) => Err(invalid(
            "status_class",
            "expected 1xx, 2xx, 3xx, 4xx, 5xx, or none for attempts without a response",
        )),
    }
}

/// Parses a cursor: the position, number and subscription of the last attempt of the page before.
fn parse_cursor(text: &str) -> Option<(Position, u16, SubscriptionId)> {
    let mut parts = text.split('.');
    let cursor =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(cursor)
}
