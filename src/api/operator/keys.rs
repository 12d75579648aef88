//! API keys: made, listed and revoked by operators.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::audit::actor;
use crate::api::auth::admin_key::hash;
use crate::api::auth::caller::Caller;
use crate::api::http::body;
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::patterns::patterns;
use crate::api::http::query::Query;
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::access::audit::{Action, AuditEntry};
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::id::KeyId;
use crate::domain::time::UnixMillis;
use crate::log::RevocationReach;
use crate::store::idempotency::StoredResponse;
use crate::store::keys::StoredKey;

/// How keys begin, so that leaked ones are recognised.
const PREFIX: &str = "hh_";
const LONGEST_NAME: usize = 200;
/// The longest that a key is good which expires, in seconds: ten years.
const LONGEST_LIFE_S: u32 = 315_360_000;

/// What a request says of a new key.
struct Given {
    name: String,
    scopes: Scopes,
    event_types: Option<Arc<[Pattern]>>,
    expires_at: Option<UnixMillis>,
}

impl Given {
    fn read(body: &[u8], now: UnixMillis) -> Result<Self, Problem> {
        let mut fields = Fields::of(body)?;
        let name = fields.text("name", LONGEST_NAME).value().unwrap_or_default();
        if name.is_empty() && !fields.is_faulty() {
            fields.fault("name", "is missing; expected a name to know the key by");
        }
        let scopes = scopes(&mut fields);
        let event_types: Option<Arc<[Pattern]>> =
            patterns(&mut fields, "event_types").value().map(Arc::from);
        if event_types.is_some() && scopes.allow(Scope::Admin) {
            let why = "a key with the scope admin may do everything; leave this out, or that scope";
            fields.fault("event_types", why);
        }
        let expires_at = expires_at(&mut fields, now);
        fields.finish()?;
        Ok(Self { name, scopes, event_types, expires_at })
    }
}

fn scopes(fields: &mut Fields) -> Scopes {
    let Some(items) = fields.list("scopes", Scope::ALL.len()).value() else {
        return Scopes::of_a_tenant();
    };
    let mut scopes = Vec::new();
    if items.is_empty() {
        fields.fault("scopes", "names at least one scope");
    }
    for (index, item) in items.iter().enumerate() {
        if let Some(scope) = item.as_str().and_then(Scope::from_name) {
            scopes.push(scope);
        } else {
            let known = Scope::ALL.map(Scope::name).join(", ");
            fields.fault(format!("scopes/{index}"), format!("expected one of {known}"));
        }
    }
    scopes.into_iter().collect()
}

/// `expires_at`, a time, or `expires_in_s`; without either the key is good until it is revoked.
fn expires_at(fields: &mut Fields, now: UnixMillis) -> Option<UnixMillis> {
    let at = fields.text("expires_at", 64).value();
    let in_s = fields.number("expires_in_s", 1..=LONGEST_LIFE_S).value();
    let latest = now.after(std::time::Duration::from_secs(LONGEST_LIFE_S.into()));
    match (at.as_deref().map(UnixMillis::parse), in_s) {
        (None, None) => None,
        (None, Some(in_s)) => Some(now.after(std::time::Duration::from_secs(in_s.into()))),
        (Some(Some(at)), None) if at > now && at <= latest => Some(at),
        (Some(_), None) => {
            let right = "expected an RFC 3339 time to come, within ten years";
            fields.fault("expires_at", right);
            None
        }
        (Some(_), Some(_)) => {
            fields.fault("expires_in_s", "stands for expires_at; give one of them");
            None
        }
    }
}

/// `POST /v1/keys`: a key for the caller's tenant, shown this once.
pub(crate) async fn create(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let claim = idempotency::claim(&api, &caller, &request, &body).await?;
    if let Some(first) = idempotency::first(&api, &caller, claim.as_ref()).await? {
        return made_before(first);
    }
    let now = UnixMillis::now();
    let given = Given::read(&body, now)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let stored = StoredKey {
        id: KeyId::new(now, rand::random()),
        tenant: caller.tenant.to_string(),
        name: given.name,
        scopes: given.scopes,
        event_types: given.event_types,
        created_at: now,
        expires_at: given.expires_at,
        last_used_at: None,
        revoked: false,
    };
    let shown = view(&stored);
    let by = actor(&caller.key.name, &request);
    let audit = AuditEntry::new(
        now,
        Uuid::new_v4(),
        &by,
        Action { tenant: &caller.tenant, name: "key.created", target: stored.id.to_string() },
    )
    .with(None, Some(shown.clone()));
    let answer = with_key(shown, &key).to_string();
    let kept = claim.as_ref().map(|claim| (&claim.key, answer.as_str()));
    if api.store.insert_key(&stored, &hash(&key), kept, &audit).await? {
        return Ok(HttpResponse::Created()
            .insert_header((LOCATION, path_of(&stored.id)))
            .content_type("application/json")
            .body(answer));
    }
    // Another node was asked the same at the same time, and was first.
    match idempotency::first(&api, &caller, claim.as_ref()).await? {
        Some(first) => made_before(first),
        None => Err(idempotency::met()),
    }
}

fn path_of(id: &impl ToString) -> String {
    format!("/v1/keys/{}", id.to_string())
}

fn with_key(mut view: Value, key: &str) -> Value {
    if let Some(members) = view.as_object_mut() {
        members.insert("key".into(), json!(key));
    }
    view
}

fn made_before(first: StoredResponse) -> Result<HttpResponse, Problem> {
    let made: Option<Value> =
        first.answer.as_deref().and_then(|answer| serde_json::from_slice(answer).ok());
    let id = made.as_ref().and_then(|made| made.get("id")?.as_str());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "the first answer cannot be read"))?;
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, path_of(&id)));
    Ok(idempotency::answer(response, first))
}

/// `GET /v1/keys`: those that are not revoked, oldest first.
pub(crate) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<KeyId>("after")?.map_or(0, KeyId::stored);
    let found = api.store.select_keys(&caller.tenant, after, i64::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<&StoredKey> = found.iter().take(limit.into()).collect();
    let next = page.last().filter(|_| has_more).map(|last| last.id.to_string());
    let data: Vec<Value> = page.into_iter().map(view).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `GET /v1/keys/{id}`.
pub(crate) async fn get(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let key = find(&api, &caller, &path).await?;
    if key.revoked {
        return Err(Problem::not_found("key"));
    }
    Ok(HttpResponse::Ok().json(view(&key)))
}

/// The key of that id, also when it is revoked.
async fn find(api: &Api, caller: &Caller, id: &str) -> Result<StoredKey, Problem> {
    let no_such = || Problem::not_found("key");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_key_by_id(id).await?;
    found.filter(|key| *key.tenant == *caller.tenant).ok_or_else(no_such)
}

/// `DELETE /v1/keys/{id}`: 204 when no node lets it in any more and all that was opened with it is told to end; 204
/// again when repeated.
pub(crate) async fn revoke(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let key = find(&api, &caller, &path).await?;
    let (by, token) = (actor(&caller.key.name, &request), Uuid::new_v4());
    let audit = AuditEntry::new(
        UnixMillis::now(),
        token,
        &by,
        Action { tenant: &caller.tenant, name: "key.revoked", target: key.id.to_string() },
    )
    .with(Some(view(&key)), None);
    match api.log.revoke_key(&key, token, &audit).await? {
        Some(RevocationReach::Everywhere) => Ok(HttpResponse::NoContent().finish()),
        Some(RevocationReach::Unconfirmed) => Err(Problem::new(
            Code::Unavailable,
            "the key is revoked, but a node has not confirmed in time that it knows; send this again",
        )),
        None => Err(Problem::not_found("key")),
    }
}

/// Never the key itself, which nobody knows any more.
fn view(key: &StoredKey) -> Value {
    let event_types: Option<Vec<&str>> =
        key.event_types.as_ref().map(|patterns| patterns.iter().map(Pattern::as_str).collect());
    json!({
        "id": key.id.to_string(),
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes.iter().map(Scope::name).collect::<Vec<_>>(),
        "event_types": event_types,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    })
}
