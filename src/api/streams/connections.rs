//! Who is connected to this node: streams and waiting polls.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::caller::Caller;
use crate::api::http::query::Query;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::ConnectionId;
use crate::domain::position::Position;
use crate::streaming::presence::ConnectionEntry;

/// `GET /v1/connections`.
pub(crate) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = usize::from(query.limit()?);
    let after = query.parsed::<ConnectionId>("after")?.unwrap_or(ConnectionId::from_stored(0));
    let found = api.streams.presence().list(&caller.tenant, after, limit + 1);
    let has_more = found.len() > limit;
    let page: Vec<&Arc<ConnectionEntry>> = found.iter().take(limit).collect();
    let next = page.last().filter(|_| has_more).map(|last| last.id.to_string());
    let head = api.log.head();
    let shown = page.into_iter().filter(|entry| caller.key.covers(&entry.filter().patterns()));
    let data: Vec<Value> = shown.map(|entry| view(entry, head)).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `lag_ms`: how much older the last event it was handed is than the newest of the log.
fn view(entry: &ConnectionEntry, head: Position) -> Value {
    let (filter, position) = (entry.filter(), entry.position(head));
    let lag_ms = head.time().as_i64().saturating_sub(position.time().as_i64()).max(0);
    json!({
        "id": entry.id.to_string(),
        "transport": entry.transport.name(),
        "key": &*entry.owner.key.name,
        "event_types": filter.patterns().iter().map(Pattern::as_str).collect::<Vec<_>>(),
        "subscription": filter.subscription().map(|id| id.to_string()),
        "position": position.to_string(),
        "lag_ms": lag_ms,
        "connected_at": entry.id.time(),
    })
}
