//! Publishing events, and reading them back.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::append::append;
use super::body;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::publish_input::{self, Publish};
use super::query::{Query, invalid};
use crate::log::Log;
use crate::store::log::{Scan, Stretch};
use crate::values::event::{Event, NewEvent};
use crate::values::event_type::Pattern;
use crate::values::position::Position;
use crate::values::time::UnixMillis;

/// The largest body of a publish.
pub(super) const MOST_BYTES: usize = 5 << 20;
/// How much of the log one list request looks at: pages of events and bytes of data.
const PAGE: (u16, u32) = (2_000, 8 << 20);
const MOST_PAGES: usize = 10;

/// `POST /v1/events`: 202 when all good events are durable.
pub(super) async fn publish(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let content_type = body::content_type(&request)?;
    let body = body::read(&request, payload, MOST_BYTES).await?;
    let claim = api.running.claim(&caller, &request, &body)?;
    let publish = publish_input::read(content_type, &body, api.max_event_bytes)?;
    let events = match &publish {
        Publish::One(event) => vec![event.clone()],
        Publish::Batch(items) => publish_input::good(items),
    };
    // Nothing to append: but a key is kept all the same.
    let (first, mut response) = if events.is_empty() && claim.is_none() {
        (Position::START, HttpResponse::Accepted())
    } else {
        append(&api, &caller, claim, events).await?
    };
    Ok(match publish {
        Publish::One(event) => response.json(receipt(first, &event)),
        Publish::Batch(items) => response.json(json!({ "data": receipts(first, &items) })),
    })
}

fn receipt(position: Position, event: &NewEvent) -> Value {
    let timestamp = event.occurred_at.unwrap_or_else(|| position.time());
    json!({ "id": position.to_string(), "type": event.event_type.as_str(), "timestamp": timestamp })
}

fn receipts(first: Position, items: &[Result<NewEvent, Problem>]) -> Vec<Value> {
    let mut next = first;
    let receipt_of = |item: &Result<NewEvent, Problem>| match item {
        Ok(event) => {
            let receipt = receipt(next, event);
            next = next.advanced(1);
            receipt
        }
        Err(problem) => problem.as_item(),
    };
    items.iter().map(receipt_of).collect()
}

/// `GET /v1/events`: the tenant's events after a cursor, or the newest first.
pub(super) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["types", "after", "limit", "order"])?;
    let limit = usize::from(query.limit()?);
    let wanted = Wanted { tenant: &caller.tenant, patterns: patterns(&query)? };
    let descending = match query.text("order") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(invalid("order", "expected asc or desc")),
    };
    let found = if descending {
        let from = cursor(&query, &api.log)?.map_or(Position::END, Position::previous);
        wanted.backwards(&api, from, limit).await?
    } else {
        let after = cursor(&query, &api.log)?.unwrap_or(Position::START);
        wanted.forwards(&api, after, limit).await?
    };
    let data = found.events.iter().map(|event| as_json(event)).collect::<Result<Vec<_>, _>>()?;
    Ok(query.page(&data, Some(&found.cursor.to_string()), found.has_more))
}

/// `GET /v1/events/{id}`.
pub(super) async fn get(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let event = find(&api, &caller, &path).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(event.body.clone()))
}

/// The caller's event of that id.
pub(super) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<Arc<Event>, Problem> {
    let no_such = || Problem::not_found("event");
    let position: Position = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.events_at(&[position.stored()], Some(&caller.tenant)).await?;
    found.into_iter().next().ok_or_else(no_such)
}

/// An event as JSON within a list: the very bytes of its body.
fn as_json(event: &Event) -> Result<&RawValue, Problem> {
    serde_json::from_slice(&event.body).map_err(|error| {
        Problem::new(Code::Internal, format!("event {} cannot be shown: {error}", event.position))
    })
}

fn patterns(query: &Query) -> Result<Vec<Pattern>, Problem> {
    let types = query.text("types").unwrap_or("*").split(',');
    types
        .map(|text| text.parse().map_err(|error| invalid("types", &format!("{text:?}: {error}"))))
        .collect()
}

/// `after`: an event id, `now`, `earliest`, or a time.
fn cursor(query: &Query, log: &Log) -> Result<Option<Position>, Problem> {
    let Some(text) = query.text("after") else { return Ok(None) };
    let position = match text {
        "now" => log.head(),
        "earliest" => Position::START,
        text => match (text.parse::<Position>(), UnixMillis::parse(text)) {
            (Ok(position), _) => position,
            (_, Some(time)) => Position::before_time(time),
            _ => {
                return Err(invalid(
                    "after",
                    "expected an event id, now, earliest, or an RFC 3339 time",
                ));
            }
        },
    };
    Ok(Some(position))
}

/// Which events a list is of.
struct Wanted<'a> {
    tenant: &'a str,
    patterns: Vec<Pattern>,
}

/// One page of a list.
struct Found {
    events: Vec<Arc<Event>>,
    cursor: Position,
    has_more: bool,
}

impl Wanted<'_> {
    async fn forwards(&self, api: &Api, after: Position, limit: usize) -> Result<Found, Problem> {
        let mut found = Found { events: Vec::new(), cursor: after, has_more: true };
        for _ in 0..MOST_PAGES {
            let (events, bytes) = PAGE;
            let scan = Scan {
                after: found.cursor,
                up_to: Position::END,
                tenant: Some(self.tenant),
                events,
                bytes,
            };
            let stretch = api.log.read_after(scan).await?;
            if self.gather(&mut found, stretch, limit) {
                break;
            }
        }
        Ok(found)
    }

    async fn backwards(&self, api: &Api, from: Position, limit: usize) -> Result<Found, Problem> {
        let mut found = Found { events: Vec::new(), cursor: from, has_more: true };
        let mut up_to = from;
        for _ in 0..MOST_PAGES {
            let (events, bytes) = PAGE;
            let scan =
                Scan { after: Position::START, up_to, tenant: Some(self.tenant), events, bytes };
            let stretch = api.store.read_before(scan).await?;
            if self.gather(&mut found, stretch, limit) {
                break;
            }
            up_to = found.cursor.previous();
        }
        Ok(found)
    }

    /// Takes what is wanted of a stretch; true when the page is full or there is no more.
    fn gather(&self, found: &mut Found, stretch: Stretch, limit: usize) -> bool {
        for event in stretch.events {
            if self.patterns.iter().any(|pattern| pattern.matches(event.event_type.as_str())) {
                if found.events.len() == limit {
                    return true;
                }
                found.cursor = event.position;
                found.events.push(event);
            }
        }
        found.cursor = stretch.scanned;
        found.has_more = !stretch.complete;
        stretch.complete
    }
}
