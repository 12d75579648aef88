//! `POST /v1/keys`.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::input::KeyInput;
use super::view::view;
use crate::api::auth::admin_key::hash;
use crate::api::auth::context::Authorized;
use crate::api::http::idempotency;
use crate::api::http::input::JsonBody;
use crate::api::problem::{Code, Problem};
use crate::domain::id::KeyId;
use crate::domain::time::UnixMillis;
use crate::store::idempotency::StoredResponse;
use crate::store::keys::StoredKey;

/// The prefix of every key, by which secret scanners recognise a leaked one.
const PREFIX: &str = "hh_";

/// `POST /v1/keys`: creates a key for the caller's tenant. The response is the only one that shows the key itself.
pub(super) async fn create(
    Authorized(context, body): Authorized<JsonBody>,
) -> Result<HttpResponse, Problem> {
    let claim = idempotency::claim(&context, &body.0).await?;
    if let Some(first) = idempotency::first(&context, claim.as_ref()).await? {
        return replay(first);
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
    match idempotency::first(&context, claim.as_ref()).await? {
        Some(first) => replay(first),
        None => Err(idempotency::concurrent_requests()),
    }
}

/// Returns the path of a key, for the `Location` header.
fn path_of(id: &impl ToString) -> String {
    format!("/v1/keys/{}", id.to_string())
}

/// Adds the text of the new key to its JSON.
fn with_key(mut view: Value, key: &str) -> Value {
    if let Some(members) = view.as_object_mut() {
        members.insert("key".into(), json!(key));
    }
    view
}

/// Builds the response to a repeat of the request that created a key.
fn replay(first: StoredResponse) -> Result<HttpResponse, Problem> {
    let created: Option<Value> =
        first.answer.as_deref().and_then(|answer| serde_json::from_slice(answer).ok());
    let id = created.as_ref().and_then(|created| created.get("id")?.as_str());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "the stored response is not a key"))?;
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, path_of(&id)));
    Ok(idempotency::replay(response, first))
}
