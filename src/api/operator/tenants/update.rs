//! `PUT` and `PATCH /v1/tenants/{name}`.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};

use super::input::TenantInput;
use super::view::{audit_view, is_unused, no_such_tenant, parse_name, view};
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::JsonBody;
use crate::api::problem::Problem;
use crate::store::tenants::{StoredTenant, TenantDefinition};

/// How often a request tries to write its change.
const MAX_CHANGE_ATTEMPTS: u32 = 5;

/// `PUT /v1/tenants/{name}`: creates or replaces the definition. A missing field has the hub's default.
pub(super) async fn put(
    Authorized(context, body): Authorized<JsonBody>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = parse_name(&path)?;
    let written = write_definition(&context, name, |_| {
        Ok(TenantInput::parse(&body)?.patched_onto(TenantDefinition::default()))
    })
    .await?;
    let mut response = if written.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if written.is_new {
        response.insert_header((LOCATION, format!("/v1/tenants/{name}")));
    }
    Ok(response.json(view(&context.api, name, Some(&written.tenant))))
}

/// `PATCH /v1/tenants/{name}`: changes the fields in the body. Null restores the hub's default.
pub(super) async fn patch(
    Authorized(context, body): Authorized<JsonBody>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = parse_name(&path)?;
    let is_used = !is_unused(context.api.store.select_tenant_usage(name).await?);
    let written = write_definition(&context, name, |current| match current {
        None if !is_used => Err(no_such_tenant()),
        current => {
            let current = current.map(|current| current.definition.clone());
            Ok(TenantInput::parse(&body)?.patched_onto(current.unwrap_or_default()))
        }
    })
    .await?;
    Ok(HttpResponse::Ok().json(view(&context.api, name, Some(&written.tenant))))
}

struct WrittenTenant {
    /// Whether the tenant had no definition before.
    is_new: bool,
    tenant: StoredTenant,
}

/// Writes the definition that `define` computes from the current one, and applies its quotas on this node.
///
/// Calls `define` again if another request changed the tenant meanwhile; 409 after [`MAX_CHANGE_ATTEMPTS`].
async fn write_definition(
    context: &Context,
    name: &str,
    define: impl Fn(Option<&StoredTenant>) -> Result<TenantDefinition, Problem>,
) -> Result<WrittenTenant, Problem> {
    let api = &context.api;
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        let record = api.store.select_tenant(name).await?;
        let version = record.as_ref().map(|record| record.version);
        let current = record.and_then(|record| record.tenant);
        let is_new = current.is_none();
        let definition = define(current.as_ref())?;
        let before = current.map(|current| audit_view(&current.definition));
        let action = if is_new { "tenant.created" } else { "tenant.updated" };
        let entry =
            context.audit_entry(name, action, &name).with(before, Some(audit_view(&definition)));
        if let Some(tenant) = api.store.upsert_tenant(name, &definition, version, &entry).await? {
            api.quotas.refresh(&api.store).await?;
            return Ok(WrittenTenant { is_new, tenant });
        }
    }
    Err(Problem::concurrent_modification("tenant"))
}
