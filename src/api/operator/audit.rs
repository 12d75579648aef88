//! The audit log: each change, and each action such as a replay, with the key and the address that requested it.

use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::http::query::Page;
use crate::api::problem::ApiResult;
use crate::domain::id::AuditId;
use crate::store::audit::{AuditFilter, AuditRow};

/// `GET /v1/audit`: the entries of the tenant, newest first.
pub(super) async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&["target", "action", "key", "after", "limit"])?;
    let limit = query.limit()?;
    let text = |name| query.text(name).map(str::to_owned);
    let filter = AuditFilter {
        target: text("target"),
        action: text("action"),
        key: text("key"),
        below: query.parsed("after")?,
    };
    let (store, tenant) = (&context.api.store, &context.caller.tenant);
    let found = store.select_audit(tenant, &filter, i64::from(limit) + 1).await?;
    let page = Page::new(found, limit, |last| AuditId::from_stored(last.id).to_string());
    let data: Vec<Value> = page.items.iter().map(view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

fn view(row: &AuditRow) -> Value {
    let id = AuditId::from_stored(row.id);
    let json = |text: &Option<String>| -> Value {
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
        "before": json(&row.before),
        "after": json(&row.after),
    })
}
