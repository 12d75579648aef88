//! `GET /v1/keys` and `GET /v1/keys/{id}`.

use actix_web::{HttpResponse, web};
use serde_json::Value;

use super::view::view;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::{NoQuery, Parameters};
use crate::api::http::list::Page;
use crate::api::problem::Problem;
use crate::domain::id::KeyId;
use crate::store::keys::StoredKey;

/// `GET /v1/keys`: lists the keys that are not revoked, oldest first.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<KeyId>("after")?.map_or(0, KeyId::stored);
    let (store, tenant) = (&context.api.store, &context.caller.tenant);
    let found = store.select_keys(tenant, after, i64::from(limit) + 1).await?;
    let page = Page::new(found, limit, |last| last.id.to_string());
    let data: Vec<Value> = page.items.iter().map(view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// `GET /v1/keys/{id}`: returns a key without its text.
pub(super) async fn get(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let key = find_key(&context, &id).await?;
    if key.revoked {
        return Err(Problem::not_found("key"));
    }
    Ok(HttpResponse::Ok().json(view(&key)))
}

/// Finds a key of the caller's tenant by the text of its id. A revoked key is found too. 404 if it does not exist.
pub(super) async fn find_key(context: &Context, id: &str) -> Result<StoredKey, Problem> {
    let no_such = || Problem::not_found("key");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = context.api.store.select_key_by_id(id).await?;
    found.filter(|key| *key.tenant == *context.caller.tenant).ok_or_else(no_such)
}
