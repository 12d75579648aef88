//! `GET /v1/tenants` and `GET /v1/tenants/{name}`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::view::{is_unused, no_such_tenant, parse_name, view};
use crate::api::auth::context::Authorized;
use crate::api::auth::tenant::is_tenant_name;
use crate::api::http::input::{NoQuery, Parameters};
use crate::api::http::list::Page;
use crate::api::http::query::invalid;
use crate::api::problem::Problem;
use crate::store::tenants::TenantUsage;

/// `GET /v1/tenants`: lists every tenant that has a definition, a key or a subscription, by name.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.text("after");
    if !after.is_none_or(is_tenant_name) {
        return Err(invalid("after", "expected the name of a tenant"));
    }
    let api = &context.api;
    let found = api.store.select_tenants(after.unwrap_or_default(), i32::from(limit) + 1).await?;
    let page = Page::new(found, limit, |(name, _)| name.clone());
    let data: Vec<Value> =
        page.items.iter().map(|(name, stored)| view(api, name, stored.as_ref())).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// `GET /v1/tenants/{name}`: returns a tenant with its use of its quotas.
pub(super) async fn get(
    Authorized(context, NoQuery): Authorized,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let api = &context.api;
    let name = parse_name(&path)?;
    let stored = api.store.select_tenant(name).await?.and_then(|record| record.tenant);
    let used = api.store.select_tenant_usage(name).await?;
    if stored.is_none() && is_unused(used) {
        return Err(no_such_tenant());
    }
    let mut view = view(api, name, stored.as_ref());
    if let Some(members) = view.as_object_mut() {
        let streams = api.streams.presence.count_of_tenant(name);
        let TenantUsage { keys, subscriptions } = used;
        let used = json!({ "keys": keys, "subscriptions": subscriptions, "streams": streams });
        members.insert("use".into(), used);
    }
    Ok(HttpResponse::Ok().json(view))
}
