//! The signing keys of a subscription: public keys, with which receivers verify `v1a` signatures, and rotation.

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::change::MAX_CHANGE_ATTEMPTS;
use super::read::find_subscription;
use super::repeat::first_view;
use crate::api::auth::context::Authorized;
use crate::api::http::idempotency;
use crate::api::http::input::{JsonBody, NoQuery};
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::signing::ed25519::PublicKey;
use crate::domain::signing::secret::Secret;
use crate::domain::signing::{MAX_ACTIVE_KEYS, Signing, TooManyKeys};
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change::{self, Change, ChangeResult};
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::time::UnixMillis;

/// Five minutes: far shorter than the usual overlap of a key rotation.
const KEY_SET_CACHE_CONTROL: &str = "public, max-age=300";

/// `GET /v1/subscriptions/{id}/public-key`: the newest public key. 404 without `v1a` signatures.
pub(super) async fn public_key(
    Authorized(context, _): Authorized,
    id: web::Path<String>,
) -> ApiResult {
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

/// `GET /v1/subscriptions/{id}/jwks.json`: all valid public keys (RFC 7517, section 5). Public, because receivers fetch
/// it. 404 without public keys.
pub(super) async fn jwks(
    id: web::Path<String>,
    NoQuery: NoQuery,
    api: web::Data<Api>,
) -> ApiResult {
    let no_such = || Problem::not_found("key set");
    let id: SubscriptionId = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_webhooks_by_id(&[id.stored()]).await?;
    let keys = found.first().map(valid_keys).filter(|keys| !keys.is_empty()).ok_or_else(no_such)?;
    let keys: Vec<Value> = keys.iter().map(|key| json!(key.jwk())).collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, KEY_SET_CACHE_CONTROL))
        .json(json!({ "keys": keys })))
}

/// The keys that verify `v1a` signatures now, newest first. Empty without `v1a` among the signatures.
fn valid_keys(subscription: &Subscription) -> Vec<PublicKey<'_>> {
    match &subscription.definition.channel {
        Channel::Webhook(webhook) => webhook.settings.signing.public_keys(UnixMillis::now()),
        Channel::Pull { .. } => Vec::new(),
    }
}

/// One day.
const DEFAULT_OVERLAP_S: u32 = 86_400;
/// One week.
const MAX_OVERLAP_S: u32 = 604_800;

struct RotationInput {
    /// `None`: the hub generates a secret.
    secret: Option<Secret>,
    /// The time for which earlier keys still sign.
    overlap: Duration,
}

/// `POST /v1/subscriptions/{id}/rotate-secret`: replaces the secret. The earlier secrets also sign until their overlap
/// ends. The response shows the new secret; so does an idempotent repeat. 409 if too many secrets are valid.
pub(super) async fn rotate(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let claim = idempotency::claim(&context, &body.0).await?;
    let input = RotationInput::parse(&body)?;
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        // Before the checks below, which a repeat may fail: the first request has already made this rotation.
        if let Some(first) = idempotency::first_response(&context, claim.as_ref()).await? {
            let first = first_view(&context, first.position).await?;
            return Ok(idempotency::mark_replayed(&mut HttpResponse::Ok()).json(first.view));
        }
        let current = find_subscription(&context, &id).await?;
        let signing = input.rotate(current.definition.signing())?;
        let definition = current.definition.clone().signed_by(signing);
        let change = Change {
            key: claim.as_ref().map(|claim| claim.key.clone()),
            ..change::secret_rotated(Subscription { definition, ..current.clone() })
        };
        match context.api.log.change(&change, Some(&current), &context.actor()).await? {
            ChangeResult::Applied { position, .. } => {
                let changed = Subscription { changed_at: position, ..change.subscription };
                return Ok(HttpResponse::Ok().json(SubscriptionView::with_secret(&changed)));
            }
            // Another request changed the subscription, or another node handled this same request. The next round reads
            // the new state, or finds that node's response.
            ChangeResult::Replayed { .. } | ChangeResult::Stale | ChangeResult::QuotaExceeded => {}
        }
    }
    Err(Problem::concurrent_modification("subscription"))
}

impl RotationInput {
    /// Parses the body of a rotation, which may be empty. 422 for invalid fields.
    fn parse(body: &JsonBody) -> ApiResult<Self> {
        let mut fields = body.optional_fields()?;
        let secret = fields.parsed("secret").value();
        let overlap_s = fields.number("overlap_s", 0..=MAX_OVERLAP_S).value();
        fields.finish()?;
        let overlap = Duration::from_secs(overlap_s.unwrap_or(DEFAULT_OVERLAP_S).into());
        Ok(Self { secret, overlap })
    }

    /// Returns `signing` with the new secret. Earlier secrets stay until their overlap ends. 422 if the secret is already
    /// the current one, 409 `too_many_secrets` if too many are valid.
    fn rotate(&self, signing: &Signing) -> ApiResult<Signing> {
        if self.secret.as_ref() == Some(signing.secret()) {
            let detail = "is already the current secret; leave it out to get a generated one";
            return Err(Problem::invalid_field("/secret", detail));
        }
        let secret = self.secret.clone().unwrap_or_else(|| Secret::from_random(rand::random()));
        let (seed, now) = (rand::random(), UnixMillis::now());
        let rotated = signing.clone().rotated(secret, seed, self.overlap, now);
        rotated.map_err(|TooManyKeys { until }| {
            let detail = format!(
                "this subscription has {MAX_ACTIVE_KEYS} valid secrets, the limit; rotate after {until}, when one of them \
                 expires, or send overlap_s 0 to end all earlier ones now"
            );
            Problem::new(Code::TooManySecrets, detail)
        })
    }
}
