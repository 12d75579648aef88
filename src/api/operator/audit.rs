//! The audit log: who changed what, and from where.

use actix_web::http::header::USER_AGENT;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::auth::caller::Caller;
use crate::api::http::client_address::client_address;
use crate::api::http::query::Query;
use crate::api::http::request_id::RequestId;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::access::audit::{Action, Actor, AuditEntry};
use crate::domain::id::AuditId;
use crate::domain::single_line::SingleLine;
use crate::domain::time::UnixMillis;
use crate::store::audit::{AuditFilter, AuditRow};

/// Who asks, with which key, and from where.
pub(crate) fn actor(key: &str, request: &HttpRequest) -> Actor {
    let user_agent = request.headers().get(USER_AGENT);
    Actor {
        key: key.to_owned(),
        address: Some(client_address(request).to_string()),
        user_agent: user_agent
            .map(|value| SingleLine(&String::from_utf8_lossy(value.as_bytes())).to_string()),
        request_id: request.extensions().get::<RequestId>().map(ToString::to_string),
    }
}

/// Notes what is about to be done with `said` for a request that changes no row of its own: nothing is done that is
/// not on record.
pub(crate) async fn note(
    api: &Api,
    (caller, request): (&Caller, &HttpRequest),
    action: &str,
    target: &impl ToString,
    said: Value,
) -> Result<(), Problem> {
    let (now, token, actor) = (UnixMillis::now(), Uuid::new_v4(), actor(&caller.key.name, request));
    let entry = AuditEntry::new(
        now,
        token,
        &actor,
        Action { tenant: &caller.tenant, name: action, target: target.to_string() },
    );
    Ok(api.store.insert_audit(&entry.with(None, Some(said))).await?)
}

/// `GET /v1/audit`: the tenant's, newest first.
pub(crate) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["target", "action", "key", "after", "limit"])?;
    let limit = query.limit()?;
    let text = |name| query.text(name).map(str::to_owned);
    let filter = AuditFilter {
        target: text("target"),
        action: text("action"),
        key: text("key"),
        below: query.parsed("after")?,
    };
    let found = api.store.select_audit(&caller.tenant, &filter, i64::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<&AuditRow> = found.iter().take(limit.into()).collect();
    let next =
        page.last().filter(|_| has_more).map(|last| AuditId::from_stored(last.id).to_string());
    let data: Vec<Value> = page.into_iter().map(view).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

fn view(row: &AuditRow) -> Value {
    let id = AuditId::from_stored(row.id);
    let part = |text: &Option<String>| -> Value {
        text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    json!({
        "id": id.to_string(),
        "at": id.time(),
        "action": row.action,
        "target": row.target,
        "key": row.key,
        "address": row.address,
        "user_agent": row.user_agent,
        "request_id": row.request_id,
        "before": part(&row.before),
        "after": part(&row.after),
    })
}
