//! Tenants as their operator sees them: what each may do, and what it has.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use uuid::Uuid;

use super::audit::actor;
use crate::api::auth::caller::{Caller, is_tenant};
use crate::api::http::body;
use crate::api::http::fields::{Field, Fields};
use crate::api::http::query::{Query, invalid};
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::access::audit::{Action, AuditEntry};
use crate::domain::access::quota::{EVENT_BYTES_RANGE, MAX_QUOTA, OwnQuotas};
use crate::domain::time::UnixMillis;
use crate::store::tenants::{StoredTenant, TenantDefinition, TenantUsage};

const LONGEST_DESCRIPTION: usize = 1_000;
/// How often a change is made anew because another one came between.
const CHANGE_TRIES: u32 = 5;

/// What a request says of a tenant.
struct Given {
    description: Field<String>,
    quotas: Field<[Field<u32>; 4]>,
}

impl Given {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Fields::of(body)?;
        let description = fields.text("description", LONGEST_DESCRIPTION);
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

    /// `current` with what was given in place of what it says.
    fn over(self, current: TenantDefinition) -> TenantDefinition {
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

/// `GET /v1/tenants`: by name, those that have a key or a subscription or of which an operator has said something.
pub(crate) async fn list(
    _: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.text("after");
    if !after.is_none_or(is_tenant) {
        return Err(invalid("after", "expected the name of a tenant"));
    }
    let mut found =
        api.store.select_tenants(after.unwrap_or_default(), i32::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    found.truncate(limit.into());
    let data: Vec<Value> =
        found.iter().map(|(name, said)| view(&api, name, said.as_ref())).collect();
    let next = found.last().filter(|_| has_more).map(|(name, _)| name.as_str());
    Ok(query.page(&data, next, has_more))
}

/// `GET /v1/tenants/{name}`: one of the list, with what it has at present.
pub(crate) async fn get(
    _: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let name = named(&path)?;
    let said = api.store.select_tenant(name).await?.and_then(|record| record.tenant);
    let used = api.store.select_tenant_usage(name).await?;
    if said.is_none() && is_unused(used) {
        return Err(no_such());
    }
    let mut view = view(&api, name, said.as_ref());
    if let Some(members) = view.as_object_mut() {
        let streams = api.streams.presence().count_of(name);
        let TenantUsage { keys, subscriptions } = used;
        let used = json!({ "keys": keys, "subscriptions": subscriptions, "streams": streams });
        members.insert("use".into(), used);
    }
    Ok(HttpResponse::Ok().json(view))
}

/// `PUT /v1/tenants/{name}`: what is not given is the hub's default.
pub(crate) async fn put(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let name = named(&path)?;
    let given = |_: Option<StoredTenant>| Ok(Given::read(&body)?.over(TenantDefinition::default()));
    let (is_new, made) = make(&api, (&caller, &request), name, given).await?;
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if is_new {
        response.insert_header((LOCATION, format!("/v1/tenants/{name}")));
    }
    Ok(response.json(view(&api, name, Some(&made))))
}

/// `PATCH /v1/tenants/{name}`: what is given is changed; null puts the hub's default in force.
pub(crate) async fn patch(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let name = named(&path)?;
    let is_used = !is_unused(api.store.select_tenant_usage(name).await?);
    let given = |current: Option<StoredTenant>| match current {
        None if !is_used => Err(no_such()),
        current => {
            let current = current.map(|current| current.definition);
            Ok(Given::read(&body)?.over(current.unwrap_or_default()))
        }
    };
    let (_, made) = make(&api, (&caller, &request), name, given).await?;
    Ok(HttpResponse::Ok().json(view(&api, name, Some(&made))))
}

/// `DELETE /v1/tenants/{name}`: 204, and 204 again when repeated. Only of a tenant that has nothing: otherwise whoever
/// has its keys would go on, with the hub's default quotas.
pub(crate) async fn delete(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let name = named(&path)?;
    let said = api.store.select_tenant(name).await?.and_then(|record| record.tenant);
    let before = said.map(|said| shown(&said.definition));
    let audit = audited((&caller, &request), "tenant.deleted", name).with(before, None);
    if !api.store.delete_tenant(name, &audit).await? {
        let used = api.store.select_tenant_usage(name).await?;
        if !is_unused(used) {
            let detail = format!(
                "this tenant has {} keys and {} subscriptions; revoke and delete these first, or, to put the hub's \
                 default quotas in force, PATCH it with {{\"quotas\": null}}",
                used.keys, used.subscriptions
            );
            return Err(Problem::new(Code::TenantInUse, detail));
        }
        if api.store.select_tenant(name).await?.is_none() {
            return Err(no_such());
        }
    }
    api.quotas.refresh(&api.store).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Keeps what `change` makes of what is said of a tenant, and puts it in force on this node; whether nothing was said
/// before.
async fn make(
    api: &Api,
    by: (&Caller, &HttpRequest),
    name: &str,
    change: impl Fn(Option<StoredTenant>) -> Result<TenantDefinition, Problem>,
) -> Result<(bool, StoredTenant), Problem> {
    for _ in 0..CHANGE_TRIES {
        let record = api.store.select_tenant(name).await?;
        let version = record.as_ref().map(|record| record.version);
        let current = record.and_then(|record| record.tenant);
        let is_new = current.is_none();
        let before = current.as_ref().map(|current| shown(&current.definition));
        let definition = change(current)?;
        let action = if is_new { "tenant.created" } else { "tenant.updated" };
        let audit = audited(by, action, name).with(before, Some(shown(&definition)));
        if let Some(made) = api.store.upsert_tenant(name, &definition, version, &audit).await? {
            api.quotas.refresh(&api.store).await?;
            return Ok((is_new, made));
        }
    }
    Err(Problem::new(Code::Conflict, "others keep changing this tenant; try again"))
}

/// What is said of a tenant, as the audit log has it.
fn shown(definition: &TenantDefinition) -> Value {
    json!({ "description": definition.description, "quotas": definition.quotas })
}

/// An entry of the audit log, which is the tenant's own.
fn audited((caller, request): (&Caller, &HttpRequest), action: &str, name: &str) -> AuditEntry {
    AuditEntry::new(
        UnixMillis::now(),
        Uuid::new_v4(),
        &actor(&caller.key.name, request),
        Action { tenant: name, name: action, target: name.to_owned() },
    )
}

fn named(path: &str) -> Result<&str, Problem> {
    if is_tenant(path) {
        return Ok(path);
    }
    Err(invalid("name", "a tenant is named by 1 to 64 letters, digits, _, . and -"))
}

fn no_such() -> Problem {
    Problem::not_found("tenant: nothing is said of it, and it has neither keys nor subscriptions")
}

fn is_unused(TenantUsage { keys, subscriptions }: TenantUsage) -> bool {
    keys == 0 && subscriptions == 0
}

/// `quotas` is what the tenant has of its own, `in_force` what this node holds it to.
fn view(api: &Api, name: &str, said: Option<&StoredTenant>) -> Value {
    let definition = said.map(|said| said.definition.clone()).unwrap_or_default();
    json!({
        "name": name,
        "description": definition.description,
        "quotas": definition.quotas,
        "in_force": api.quotas.of(name),
        "created_at": said.map(|said| said.created_at),
        "updated_at": said.map(|said| said.updated_at),
    })
}
