//! `GET /v1/subscriptions/{id}/deliveries`.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::view::{DeliveryState, DeliveryView, History};
use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::http::query::invalid;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::api::subscriptions::find::find_subscription;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::version::matches_event;

/// The size of one page of the log that a request scans.
const PAGE_LIMIT: PageLimit = PageLimit { events: 1_000, bytes: 4 << 20 };
/// The most pages that a request scans. The list may end early then, with `has_more`.
const MAX_PAGES: usize = 10;

/// `GET /v1/subscriptions/{id}/deliveries`: lists the subscription's deliveries, newest event first.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
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
            if states.is_none_or(|states| states.contains(&delivery.status)) {
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

/// Parses the query parameter `status` into the states to list. `undelivered` stands for all states in which no
/// receiver has the event.
fn states_named(name: &str) -> Result<&'static [DeliveryState], Problem> {
    if name == "undelivered" {
        return Ok(&[DeliveryState::Pending, DeliveryState::Retrying, DeliveryState::Exhausted]);
    }
    DeliveryState::named(name).ok_or_else(|| {
        let names =
            "expected pending, retrying, delivered, exhausted, cancelled, unknown, or undelivered";
        invalid("status", names)
    })
}

/// The deliveries to a subscription on one page of the log, newest first.
struct ScannedPage {
    deliveries: Vec<(Position, DeliveryView)>,
    /// The lowest position that was scanned.
    scanned: Position,
    /// Whether no older event belongs to the subscription.
    is_last: bool,
}

/// Reads one page of the log backwards, beginning with the event at `up_to`, and the history of the page's deliveries.
async fn scan(
    api: &Api,
    subscription: &Subscription,
    up_to: Position,
) -> Result<ScannedPage, Problem> {
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
