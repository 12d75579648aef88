//! The public keys of a subscription, with which receivers verify `v1a` signatures.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::find::find_subscription;
use crate::api::auth::context::Authorized;
use crate::api::http::input::NoQuery;
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::signing::ed25519::PublicKey;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;
use crate::domain::time::UnixMillis;

/// Five minutes: far shorter than the usual overlap of a key rotation.
const KEY_SET_CACHE_CONTROL: &str = "public, max-age=300";

/// `GET /v1/subscriptions/{id}/public-key`: returns the newest public key.
pub(super) async fn public_key(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let subscription = find_subscription(&context, &id).await?;
    let keys = valid_keys(&subscription);
    let current = keys.first().ok_or_else(|| {
        let detail = "this subscription has no v1a signatures; give it a callback_url and \"v1a\" in signatures";
        Problem::new(Code::NotFound, detail)
    })?;
    Ok(HttpResponse::Ok().json(json!({
        "public_key": current.to_string(),
        "jwk": current.jwk(),
    })))
}

/// `GET /v1/subscriptions/{id}/jwks.json`: returns all valid public keys as a JSON Web Key Set (RFC 7517, section 5).
///
/// The path is public, because receivers fetch it and the keys are not secret.
pub(super) async fn jwks(
    id: web::Path<String>,
    NoQuery: NoQuery,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let no_such = || Problem::not_found("key set");
    let id: SubscriptionId = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_webhooks_by_id(&[id.stored()]).await?;
    let keys = found.first().map(valid_keys).filter(|keys| !keys.is_empty()).ok_or_else(no_such)?;
    let keys: Vec<Value> = keys.iter().map(|key| json!(key.jwk())).collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, KEY_SET_CACHE_CONTROL))
        .json(json!({ "keys": keys })))
}

/// Returns the public keys of the secrets that sign now, newest first. A pull subscription has none.
fn valid_keys(subscription: &Subscription) -> Vec<PublicKey<'_>> {
    match &subscription.definition.channel {
        Channel::Webhook(webhook) => webhook.settings.signing.public_keys(UnixMillis::now()),
        Channel::Pull { .. } => Vec::new(),
    }
}
