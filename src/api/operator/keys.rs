//! API keys: creating, showing, listing and revoking them.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use strum::VariantArray;
use uuid::Uuid;

use crate::api::auth::admin_key::hash;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::fields::{Fields, patterns};
use crate::api::http::idempotency;
use crate::api::http::input::{JsonBody, Parameters};
use crate::api::http::query::Page;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::route::{self, ADMIN, Route};
use crate::domain::access::audit::{Action, AuditEntry};
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::id::KeyId;
use crate::domain::time::UnixMillis;
use crate::log::RevocationReach;
use crate::store::idempotency::StoredResponse;
use crate::store::keys::StoredKey;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route::post("/v1/keys", ADMIN, route::to_completion(create)),
        route::get("/v1/keys", ADMIN, web::to(list)),
        route::get("/v1/keys/{id}", ADMIN, web::to(get)),
        route::delete("/v1/keys/{id}", ADMIN, route::to_completion(revoke)),
    ]
}

const MAX_NAME_CHARS: usize = 200;
/// Ten years.
const MAX_LIFETIME_S: u32 = 315_360_000;

struct KeyInput {
    name: String,
    scopes: Scopes,
    event_types: Option<Arc<[Pattern]>>,
    expires_at: Option<UnixMillis>,
}

impl KeyInput {
    /// 422 for invalid fields. `now`: the time after which the key must expire.
    fn parse(body: &JsonBody, now: UnixMillis) -> ApiResult<Self> {
        let mut fields = body.fields()?;
        let name = fields.text("name", MAX_NAME_CHARS).value().unwrap_or_default();
        if name.is_empty() && !fields.is_faulty() {
            fields.fault("name", "is missing; expected a name for people to recognise the key by");
        }
        let scopes = scopes(&mut fields);
        let event_types: Option<Arc<[Pattern]>> =
            patterns(&mut fields, "event_types").value().map(Arc::from);
        if event_types.is_some() && scopes.allow(Scope::Admin) {
            let detail =
                "cannot limit a key with the scope admin; leave out event_types, or that scope";
            fields.fault("event_types", detail);
        }
        let expires_at = expires_at(&mut fields, now);
        fields.finish()?;
        Ok(Self { name, scopes, event_types, expires_at })
    }
}

/// Takes the field `scopes`; without it, every scope except `admin`. An empty array or an invalid scope is recorded as an
/// error.
fn scopes(fields: &mut Fields) -> Scopes {
    let Some(items) = fields.list("scopes", Scope::VARIANTS.len()).value() else {
        return Scopes::all_except_admin();
    };
    let mut scopes = Vec::new();
    if items.is_empty() {
        fields.fault("scopes", "expected at least one scope");
    }
    for (index, item) in items.iter().enumerate() {
        if let Some(scope) = item.as_str().and_then(|name| name.parse().ok()) {
            scopes.push(scope);
        } else {
            let known: Vec<&str> = Scope::VARIANTS.iter().map(Into::into).collect();
            let detail = format!("expected one of {}", known.join(", "));
            fields.fault(format!("scopes/{index}"), detail);
        }
    }
    scopes.into_iter().collect()
}

/// Takes the field `expires_at` (a time) or `expires_in_s` (seconds from `now`). `None`: the key never expires, or an
/// error is recorded.
fn expires_at(fields: &mut Fields, now: UnixMillis) -> Option<UnixMillis> {
    let at = fields.text("expires_at", 64).value();
    let in_s = fields.number("expires_in_s", 1..=MAX_LIFETIME_S).value();
    let latest = now.after(Duration::from_secs(MAX_LIFETIME_S.into()));
    match (at.as_deref().map(UnixMillis::parse), in_s) {
        (None, None) => None,
        (None, Some(in_s)) => Some(now.after(Duration::from_secs(in_s.into()))),
        (Some(Some(at)), None) if at > now && at <= latest => Some(at),
        (Some(_), None) => {
            fields.fault("expires_at", "expected an RFC 3339 time in the future, within ten years");
            None
        }
        (Some(_), Some(_)) => {
            fields.fault("expires_in_s", "cannot be combined with expires_at; send one of them");
            None
        }
    }
}

/// Secret scanners recognise a leaked key by this prefix.
const PREFIX: &str = "hh_";

/// `POST /v1/keys`: the text of the key appears only in this response and its idempotent repeats.
async fn create(Authorized(context, body): Authorized<JsonBody>) -> ApiResult {
    let claim = idempotency::claim(&context, &body.0).await?;
    if let Some(first) = idempotency::first_response(&context, claim.as_ref()).await? {
        return respond_to_repeat(first);
    }
    let now = UnixMillis::now();
    let input = KeyInput::parse(&body, now)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let stored = StoredKey {
        id: KeyId::new(now, rand::random()),
        tenant: context.caller.tenant.to_string(),
        name: input.name,
        scopes: input.scopes,
        event_types: input.event_types,
        created_at: now,
        expires_at: input.expires_at,
        last_used_at: None,
        revoked: false,
    };
    let view = view(&stored);
    let entry = context
        .audit_entry(&context.caller.tenant, "key.created", &stored.id)
        .with(None, Some(view.clone()));
    let response = with_key(view, &key).to_string();
    let replayable = claim.as_ref().map(|claim| (&claim.key, response.as_str()));
    if context.api.store.insert_key(&stored, &hash(&key), replayable, &entry).await? {
        return Ok(HttpResponse::Created()
            .insert_header((LOCATION, path_of(&stored.id)))
            .content_type("application/json")
            .body(response));
    }
    // Another node handled a request with the same idempotency key at the same time.
    match idempotency::first_response(&context, claim.as_ref()).await? {
        Some(first) => respond_to_repeat(first),
        None => Err(idempotency::concurrent_requests()),
    }
}

/// Returns the path of a key, for the `Location` header.
fn path_of(id: &impl ToString) -> String {
    format!("/v1/keys/{}", id.to_string())
}

/// Adds the member `key`, the text of the new key, to the JSON `view` of that key.
fn with_key(mut view: Value, key: &str) -> Value {
    if let Some(members) = view.as_object_mut() {
        members.insert("key".into(), json!(key));
    }
    view
}

/// The response to a repeat with the same idempotency key. 500 if the stored response is unreadable.
fn respond_to_repeat(first: StoredResponse) -> ApiResult {
    let created: Option<Value> =
        first.answer.as_deref().and_then(|answer| serde_json::from_slice(answer).ok());
    let id = created.as_ref().and_then(|created| created.get("id")?.as_str());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "the stored response is not a key"))?;
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, path_of(&id)));
    Ok(idempotency::repeat_response(response, first))
}

/// `GET /v1/keys`: lists the keys that are not revoked, oldest first.
async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<KeyId>("after")?.map_or(0, KeyId::stored);
    let (store, tenant) = (&context.api.store, &context.caller.tenant);
    let found = store.select_keys(tenant, after, i64::from(limit) + 1).await?;
    let page = Page::new(found, limit, |last| last.id.to_string());
    let data: Vec<Value> = page.items.iter().map(view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// `GET /v1/keys/{id}`: a key without its text. 404 for a revoked key.
async fn get(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let key = find_key(&context, &id).await?;
    if key.revoked {
        return Err(Problem::not_found("key"));
    }
    Ok(HttpResponse::Ok().json(view(&key)))
}

/// Finds a key of the caller's tenant by the text of its id. A revoked key is found too. 404 if it does not exist.
async fn find_key(context: &Context, id: &str) -> ApiResult<StoredKey> {
    let no_such = || Problem::not_found("key");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = context.api.store.select_key_by_id(id).await?;
    found.filter(|key| *key.tenant == *context.caller.tenant).ok_or_else(no_such)
}

/// `DELETE /v1/keys/{id}`: 204 once every live node rejects the key, has closed its connections and has completed its
/// operations, also when repeated. 503 if a node did not confirm that in time. 404 if unknown.
async fn revoke(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let key = find_key(&context, &id).await?;
    let token = Uuid::new_v4();
    let now = UnixMillis::now();
    let target = key.id.to_string();
    let action = Action { tenant: &context.caller.tenant, name: "key.revoked", target };
    let entry = AuditEntry::new(now, token, &context.actor(), action).with(Some(view(&key)), None);
    let revoked = context.api.log.revoke_key(&key, token, &entry).await?;
    let position = revoked.ok_or_else(|| Problem::not_found("key"))?;
    // The wait includes the operations of the revoked key. One of them may be this request, or wait for this request.
    drop(context.operation);
    match context.api.log.wait_until_enforced(position).await {
        RevocationReach::Everywhere => Ok(HttpResponse::NoContent().finish()),
        RevocationReach::Unconfirmed => Err(Problem::new(
            Code::Unavailable,
            "the key is revoked, but a node has not confirmed it in time: it may still accept the key or run a request with it; retry",
        )),
    }
}

fn view(key: &StoredKey) -> Value {
    json!({
        "id": key.id.to_string(),
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes.iter().map(Scope::name).collect::<Vec<_>>(),
        "event_types": key.event_types.as_deref(),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    })
}
