//! Publishing events, and reading them back.

pub(super) mod append;
pub(super) mod explain;
pub(super) mod input;
pub(super) mod poll;

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use self::append::append;
use self::input::Publish;
use super::auth::caller::Caller;
use super::auth::reader::Reading;
use super::http::body;
use super::http::idempotency;
use super::http::limits;
use super::http::query::{Query, TOKEN, invalid};
use super::http::rate_limit_headers::insert_rate_limit;
use super::problem::Problem;
use super::state::Api;
use super::state::worker;
use crate::domain::access::scope::Scope;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::event::{Event, NewEvent};
use crate::domain::position::Position;
use crate::streaming::presence::Transport;
use crate::streaming::{Filter, Reader, ReaderStart};

/// The largest body of a publish.
pub(crate) const MOST_BYTES: usize = 5 << 20;
/// How much of the log one list of the newest looks at: pages of events and bytes of data.
const PAGE_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 8 << 20 };
const MOST_PAGES: usize = 10;

/// `POST /v1/events`: 202 when all good events are durable.
pub(crate) async fn publish(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let content_type = body::content_type(&request)?;
    let body = body::read(&request, payload, MOST_BYTES).await?;
    let quotas = api.quotas.of(&caller.tenant);
    let publish = input::read(content_type, &body, quotas.event_bytes)?;
    let publish = publish.within(|event_type| caller.must_reach(event_type))?;
    let mut claim = idempotency::claim(&api, &caller, &request, &body).await?;
    if let Some(claim) = &mut claim {
        claim.depends_on(&publish.left_out());
    }
    let events = match &publish {
        Publish::One(event) => vec![event.clone()],
        Publish::Batch(items) => input::good(items),
    };
    let standing = limits::admit(&api, &caller, quotas.events_per_s, events.len())?;
    // Nothing to append: but a key is kept all the same.
    let (first, mut response) = if events.is_empty() && claim.is_none() {
        (Position::START, HttpResponse::Accepted())
    } else {
        append(&api, &caller, claim, events).await?
    };
    if let Some(standing) = standing {
        insert_rate_limit(&mut response, standing);
    }
    Ok(match publish {
        Publish::One(event) => response.json(receipt(first, &event)),
        Publish::Batch(items) => response.json(json!({ "data": receipts(first, &items) })),
    })
}

/// What a publisher is told of an event.
pub(crate) fn receipt(position: Position, event: &NewEvent) -> Value {
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

/// `GET /v1/events`: the tenant's events after a cursor, as soon as there are any, or the newest first.
pub(crate) async fn list(
    reading: Reading,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["types", "after", "limit", "order", "wait", TOKEN])?;
    let (limit, wait) = (usize::from(query.limit()?), poll::wait(&query)?);
    let filter = reading.filter(&query)?;
    match query.text("order") {
        None | Some("asc") => {
            // Boxed, as below: thousands wait in this function, and need not keep room for what is behind them.
            let after = Box::pin(poll::cursor(&query, &api.streams)).await?;
            let after = after.unwrap_or(Position::START);
            let start = ReaderStart { filter, after, gap: None };
            let reader = Reader::new(&worker(&request)?, start, Transport::LongPoll);
            if let Some(expires) = reading.expires() {
                reader.expire_at(expires);
            }
            let wait = wait.map(|wait| (wait, reading.caller.owner(&request)));
            poll::answer(reader, &query, limit, wait).await
        }
        Some("desc") if wait.is_some() => Err(invalid("wait", "not together with order=desc")),
        Some("desc") => Box::pin(backwards(&api, &query, &filter, limit)).await,
        Some(_) => Err(invalid("order", "expected asc or desc")),
    }
}

/// The newest events first, below a cursor.
async fn backwards(
    api: &Api,
    query: &Query,
    filter: &Filter,
    limit: usize,
) -> Result<HttpResponse, Problem> {
    let from = poll::cursor(query, &api.streams).await?.map_or(Position::END, Position::previous);
    let (mut found, mut cursor, mut complete) = (Vec::new(), from, false);
    let mut up_to = from;
    for _ in 0..MOST_PAGES {
        let tenant = Some(&*filter.tenant);
        let scan = Scan { after: Position::START, up_to, tenant, limit: PAGE_LIMIT };
        let stretch = api.store.read_before(scan).await?;
        let mut wanted = stretch.events.into_iter().filter(|event| filter.matches_event(event));
        for event in wanted.by_ref().take(limit - found.len()) {
            cursor = event.position;
            found.push(event);
        }
        if wanted.next().is_some() {
            break;
        }
        cursor = stretch.scanned;
        complete = stretch.complete;
        if complete {
            break;
        }
        up_to = cursor.previous();
    }
    let data = found.iter().map(|event| poll::as_json(event)).collect::<Result<Vec<_>, _>>()?;
    Ok(query.page(&data, Some(&cursor.to_string()), !complete))
}

/// `GET /v1/events/{id}`.
pub(crate) async fn get(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let event = find(&api, &caller, &path).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(event.body.clone()))
}

/// The caller's event of that id, if it is there for the caller's key.
pub(crate) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<Arc<Event>, Problem> {
    let no_such = || Problem::not_found("event");
    let position: Position = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.read_at(&[position.stored()], Some(&caller.tenant)).await?;
    let sees_own = caller.key.scopes.allow(Scope::Subscribe);
    let found = found.into_iter().find(|event| {
        caller.key.reaches(event.event_type.as_str())
            && (sees_own || !event.event_type.is_reserved())
    });
    found.ok_or_else(no_such)
}
