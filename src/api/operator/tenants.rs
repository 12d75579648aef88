//! Tenants: their definitions and quotas, and the usage of those quotas.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::caller::is_tenant_name;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::fields::Field;
use crate::api::http::input::{JsonBody, Parameters};
use crate::api::http::query::{Page, invalid};
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::route::{self, ADMIN, Route};
use crate::api::state::Api;
use crate::domain::access::quota::{EVENT_BYTES_RANGE, MAX_QUOTA, OwnQuotas};
use crate::store::tenants::{StoredTenant, TenantDefinition, TenantUsage};

pub(super) fn routes() -> Vec<Route> {
    vec![
        route::get("/v1/tenants", ADMIN, web::to(list)),
        route::get("/v1/tenants/{name}", ADMIN, web::to(get)),
        route::put("/v1/tenants/{name}", ADMIN, web::to(put)),
        route::patch("/v1/tenants/{name}", ADMIN, web::to(patch)),
        route::delete("/v1/tenants/{name}", ADMIN, web::to(delete)),
    ]
}

const MAX_DESCRIPTION_CHARS: usize = 1_000;

/// The fields of a tenant, each present, null or missing.
struct TenantInput {
    description: Field<String>,
    quotas: Field<[Field<u32>; 4]>,
}

impl TenantInput {
    fn parse(body: &JsonBody) -> ApiResult<Self> {
        let mut fields = body.fields()?;
        let description = fields.text("description", MAX_DESCRIPTION_CHARS);
        let quotas = fields.object("quotas", |quotas| {
            Some([
                quotas.number("events_per_s", 0..=MAX_QUOTA),
                quotas.number("subscriptions", 0..=MAX_QUOTA),
                quotas.number("streams", 0..=MAX_QUOTA),
                quotas.number("event_bytes", EVENT_BYTES_RANGE),
            ])
        });
        fields.finish()?;
        Ok(Self { description, quotas })
    }

    /// A missing field leaves the value of `current`, and null restores the default of the hub.
    fn patched_onto(self, current: TenantDefinition) -> TenantDefinition {
        let own = current.quotas;
        let quotas = match self.quotas {
            Field::Absent => own,
            Field::Null => OwnQuotas::default(),
            Field::Is([events_per_s, subscriptions, streams, event_bytes]) => OwnQuotas {
                events_per_s: events_per_s.or(own.events_per_s).value(),
                subscriptions: subscriptions.or(own.subscriptions).value(),
                streams: streams.or(own.streams).value(),
                event_bytes: event_bytes.or(own.event_bytes).value(),
            },
        };
        TenantDefinition { description: self.description.or(current.description).value(), quotas }
    }
}

/// `GET /v1/tenants`: lists every tenant that has a definition, a key or a subscription, by name.
async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
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

/// `GET /v1/tenants/{name}`: a tenant and its usage. Streams are counted on this node only. 404 without definition, keys
/// and subscriptions.
async fn get(Authorized(context, _): Authorized, path: web::Path<String>) -> ApiResult {
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

/// The maximum number of attempts to write a change, while other requests change the same tenant.
const MAX_CHANGE_ATTEMPTS: u32 = 5;

/// `PUT /v1/tenants/{name}`: 201 if the tenant had no definition, else 200. A missing field has the hub's default.
async fn put(
    Authorized(context, body): Authorized<JsonBody>,
    path: web::Path<String>,
) -> ApiResult {
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

/// `PATCH /v1/tenants/{name}`: null restores the hub's default. 404 without definition, keys and subscriptions.
async fn patch(
    Authorized(context, body): Authorized<JsonBody>,
    path: web::Path<String>,
) -> ApiResult {
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

/// Stores what `define` returns for the current definition, and applies its quotas on this node. Starts over if another
/// request changes the tenant meanwhile; 409 after [`MAX_CHANGE_ATTEMPTS`] attempts.
async fn write_definition(
    context: &Context,
    name: &str,
    define: impl Fn(Option<&StoredTenant>) -> ApiResult<TenantDefinition>,
) -> ApiResult<WrittenTenant> {
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

/// `DELETE /v1/tenants/{name}`: 204, also when repeated. 409 while the tenant has keys or subscriptions: these would
/// continue with the default quotas. 404 if it never had a definition.
async fn delete(Authorized(context, _): Authorized, path: web::Path<String>) -> ApiResult {
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

/// The JSON of a tenant: its own quotas as `quotas`, and those that this node applies as `in_force`.
fn view(api: &Api, name: &str, stored: Option<&StoredTenant>) -> Value {
    let definition = stored.map(|stored| stored.definition.clone()).unwrap_or_default();
    json!({
        "name": name,
        "description": definition.description,
        "quotas": definition.quotas,
        "in_force": api.quotas.quotas_of(name),
        "created_at": stored.map(|stored| stored.created_at),
        "updated_at": stored.map(|stored| stored.updated_at),
    })
}

/// Returns the JSON of a tenant's definition, as the audit log shows it before and after a change.
fn audit_view(definition: &TenantDefinition) -> Value {
    json!({ "description": definition.description, "quotas": definition.quotas })
}

/// Returns the tenant name in a request path. 400 if it is invalid.
fn parse_name(path: &str) -> ApiResult<&str> {
    if is_tenant_name(path) {
        return Ok(path);
    }
    Err(invalid("name", "a tenant name has 1 to 64 letters, digits, _, . and -"))
}

fn is_unused(TenantUsage { keys, subscriptions }: TenantUsage) -> bool {
    keys == 0 && subscriptions == 0
}

fn no_such_tenant() -> Problem {
    Problem::not_found("tenant: it has no definition, no keys and no subscriptions")
}
