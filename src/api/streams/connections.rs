//! The list of the streams and waiting polls on this node.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::http::query::Page;
use crate::api::problem::ApiResult;
use crate::domain::id::ConnectionId;
use crate::domain::position::Position;
use crate::streaming::presence::ConnectionEntry;

/// `GET /v1/connections`: the tenant's streams and waiting polls on this node, oldest first. Leaves out those that read
/// event types beyond the key's.
pub(super) async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<ConnectionId>("after")?.unwrap_or(ConnectionId::from_stored(0));
    let (api, caller) = (&context.api, &context.caller);
    let found = api.streams.presence.list(&caller.tenant, after, usize::from(limit) + 1);
    let page: Page<Arc<ConnectionEntry>> = Page::new(found, limit, |last| last.id.to_string());
    let head = api.log.head();
    let visible = page.items.iter().filter(|entry| caller.key.covers(&entry.filter().patterns()));
    let data: Vec<Value> = visible.map(|entry| view(entry, head)).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// `head`: the newest position. `lag_ms` is the time from the connection's position to `head`: 0 if the client waits for
/// new events.
fn view(entry: &ConnectionEntry, head: Position) -> Value {
    let (filter, position) = (entry.filter(), entry.position(head));
    let lag_ms = head.time().as_i64().saturating_sub(position.time().as_i64()).max(0);
    json!({
        "id": entry.id.to_string(),
        "transport": entry.transport.name(),
        "key": &*entry.owner.key.name,
        "event_types": *filter.patterns(),
        "subscription": filter.subscription_id().map(|id| id.to_string()),
        "position": position.to_string(),
        "lag_ms": lag_ms,
        "connected_at": entry.id.time(),
    })
}
