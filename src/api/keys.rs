//! API keys: made, listed and revoked with the admin key.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Api;
use super::body;
use super::caller::{self, Caller};
use super::fields::Fields;
use super::idempotency::{self, Claim};
use super::problem::{Code, FieldError, Problem};
use super::query::Query;
use crate::store::keys::StoredKey;
use crate::values::id::KeyId;
use crate::values::time::UnixMillis;

/// How keys begin, so that leaked ones are recognised.
const PREFIX: &str = "hh_";
const LONGEST_NAME: usize = 200;

/// `POST /v1/keys`: a key for the caller's tenant, shown this once.
pub(super) async fn create(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let claim = api.running.claim(&caller, &request, &body)?;
    if let Some(claim) = &claim
        && let Some(answer) = first_answer(&api, &caller, claim).await?
    {
        return Ok(answer);
    }
    let mut fields = Fields::of(&body)?;
    let name = fields.text("name", LONGEST_NAME).value();
    fields.finish()?;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let detail = "is missing; expected a name to know the key by".to_owned();
        return Err(Problem::invalid(vec![FieldError { pointer: "/name".into(), detail }]));
    };
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let now = UnixMillis::now();
    let stored = StoredKey {
        id: KeyId::new(now, rand::random()),
        tenant: caller.tenant.to_string(),
        name,
        created_at: now,
    };
    let mut view = view(&stored);
    if let Some(members) = view.as_object_mut() {
        members.insert("key".into(), json!(key));
    }
    let answer = view.to_string();
    let kept = claim.as_ref().map(|claim| (&claim.key, answer.as_str()));
    if api.store.insert_key(&stored, &caller::hash(&key), kept).await? {
        return Ok(HttpResponse::Created().content_type("application/json").body(answer));
    }
    // Another node was asked the same at the same time, and was first.
    let first = match &claim {
        Some(claim) => first_answer(&api, &caller, claim).await?,
        None => None,
    };
    first.ok_or_else(|| {
        Problem::new(
            Code::Conflict,
            "two requests with this Idempotency-Key came at once; try again",
        )
    })
}

/// The answer to the first request under a claim's key, if there was one.
async fn first_answer(
    api: &Api,
    caller: &Caller,
    claim: &Claim,
) -> Result<Option<HttpResponse>, Problem> {
    let Some(kept) = api.store.kept_answer(&caller.tenant, &claim.key.key).await? else {
        return Ok(None);
    };
    claim.must_be_same(&kept.fingerprint)?;
    Ok(Some(idempotency::kept(HttpResponse::Created(), kept.answer.unwrap_or_default())))
}

/// `GET /v1/keys`: without the keys themselves, which nobody knows any more.
pub(super) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<KeyId>("after")?.map_or(0, KeyId::stored);
    let found = api.store.list_keys(&caller.tenant, after, i64::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<&StoredKey> = found.iter().take(limit.into()).collect();
    let next = page.last().filter(|_| has_more).map(|last| last.id.to_string());
    let data: Vec<Value> = page.into_iter().map(view).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `DELETE /v1/keys/{id}`: revoked on this node at once, on others within seconds.
pub(super) async fn revoke(
    caller: Caller,
    path: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let id = path.parse().map_err(|_bad| Problem::not_found("key"))?;
    if !api.store.revoke_key(&caller.tenant, id).await? {
        return Err(Problem::not_found("key"));
    }
    api.keys.forget_all();
    Ok(HttpResponse::NoContent().finish())
}

fn view(key: &StoredKey) -> Value {
    json!({ "id": key.id.to_string(), "name": key.name, "tenant": key.tenant, "created_at": key.created_at })
}
