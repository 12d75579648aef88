//! `DELETE /v1/tenants/{name}`.

use actix_web::{HttpResponse, web};

use super::view::{audit_view, is_unused, no_such_tenant, parse_name};
use crate::api::auth::context::Authorized;
use crate::api::http::input::NoQuery;
use crate::api::problem::{Code, Problem};

/// `DELETE /v1/tenants/{name}`: deletes a tenant's definition. Responds 204, also when repeated.
///
/// 409 while the tenant has keys or subscriptions: these would otherwise continue with the hub's default quotas.
pub(super) async fn delete(
    Authorized(context, NoQuery): Authorized,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let api = &context.api;
    let name = parse_name(&path)?;
    let stored = api.store.select_tenant(name).await?.and_then(|record| record.tenant);
    let before = stored.map(|stored| audit_view(&stored.definition));
    let entry = context.audit_entry(name, "tenant.deleted", &name).with(before, None);
    if !api.store.delete_tenant(name, &entry).await? {
        let used = api.store.select_tenant_usage(name).await?;
        if !is_unused(used) {
            let detail = format!(
                "this tenant has {} keys and {} subscriptions; revoke and delete them first, or PATCH the tenant with \
                 {{\"quotas\": null}} to apply the hub's default quotas",
                used.keys, used.subscriptions
            );
            return Err(Problem::new(Code::TenantInUse, detail));
        }
        if api.store.select_tenant(name).await?.is_none() {
            return Err(no_such_tenant());
        }
    }
    api.quotas.refresh(&api.store).await?;
    Ok(HttpResponse::NoContent().finish())
}
