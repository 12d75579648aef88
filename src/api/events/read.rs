//! Reading events: one by its id, or a list, forwards from a cursor as a poll or backwards from the newest event.

use std::sync::Arc;

use actix_web::{HttpResponse, web};

use super::poll;
use crate::api::auth::context::{Authorized, AuthorizedReader, Context};
use crate::api::http::input::Parameters;
use crate::api::http::query::{Query, TOKEN, invalid};
use crate::api::problem::{ApiResult, Problem};
use crate::api::state::worker;
use crate::domain::access::scope::Scope;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::position::Position;
use crate::streaming::presence::Transport;
use crate::streaming::{Filter, Reader, ReaderStart};

pub(super) async fn get(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let event = find_event(&context, &id).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(event.body.clone()))
}

/// 404 if the event does not exist, if the key's event types do not cover it, or if it is an event of the hub and the key
/// lacks the scope `subscribe`.
pub(crate) async fn find_event(context: &Context, id: &str) -> ApiResult<Arc<Event>> {
    let Context { api, caller, .. } = context;
    let no_such = || Problem::not_found("event");
    let position: Position = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.read_at(&[position.stored()], Some(&caller.tenant)).await?;
    let sees_reserved = caller.key.scopes.allow(Scope::Subscribe);
    let found = found.into_iter().find(|event| {
        caller.key.reaches(event.event_type.as_str())
            && (sees_reserved || !event.event_type.is_reserved())
    });
    found.ok_or_else(no_such)
}

/// The maximum size of one page of a backward scan.
const PAGE_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 8 << 20 };
/// The maximum number of pages that one request scans backwards.
const MAX_PAGES: usize = 10;

/// `GET /v1/events`: polls for the events after a cursor, or lists the newest events first with `order=desc`.
pub(super) async fn list(
    AuthorizedReader(context, access, parameters): AuthorizedReader<Parameters>,
) -> ApiResult {
    let query = parameters.known(&["types", "after", "limit", "order", "wait", TOKEN])?;
    let (limit, wait) = (usize::from(query.limit()?), poll::wait(&query)?);
    let filter = access.filter(&query)?;
    match query.text("order") {
        None | Some("asc") => {
            // Boxed, like the backward scan: thousands of polls wait in this future, which should stay small.
            let after = Box::pin(poll::cursor(&query, &context.api.streams)).await?;
            let after = after.unwrap_or(Position::START);
            let start = ReaderStart { filter, after, gap: None };
            let reader = Reader::new(&worker(&context.request)?, start, Transport::LongPoll);
            if let Some(expires) = access.token_expires_at() {
                reader.expire_at(expires);
            }
            let wait = wait.map(|wait| (wait, context.owner()));
            poll::respond(reader, &query, limit, wait).await
        }
        Some("desc") if wait.is_some() => {
            Err(invalid("wait", "cannot be combined with order=desc"))
        }
        Some("desc") => Box::pin(newest_first(&context, &query, &filter, limit)).await,
        Some(_) => Err(invalid("order", "expected asc or desc")),
    }
}

/// Responds with up to `limit` matching events, newest first, before the cursor if the query has one. Scans at most
/// [`MAX_PAGES`] pages of the log, so a page may be short although more follow.
async fn newest_first(
    context: &Context,
    query: &Query,
    filter: &Filter,
    limit: usize,
) -> ApiResult {
    let api = &context.api;
    let from = poll::cursor(query, &api.streams).await?.map_or(Position::END, Position::previous);
    let (mut found, mut cursor, mut complete) = (Vec::new(), from, false);
    let mut up_to = from;
    for _ in 0..MAX_PAGES {
        let tenant = Some(&*filter.tenant);
        let scan = Scan { after: Position::START, up_to, tenant, limit: PAGE_LIMIT };
        let stretch = api.store.read_before(scan).await?;
        let mut matching = stretch.events.into_iter().filter(|event| filter.matches_event(event));
        for event in matching.by_ref().take(limit - found.len()) {
            cursor = event.position;
            found.push(event);
        }
        if matching.next().is_some() {
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
    Ok(query.list_until(&data, Some(&cursor.to_string()), !complete))
}
