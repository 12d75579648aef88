//! What signs a subscription's deliveries: rotating its keys, and the public ones for those who verify.

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::{CHANGE_TRIES, find, view_of_first};
use crate::api::auth::caller::Caller;
use crate::api::http::body;
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::query::Query;
use crate::api::operator::audit::actor;
use crate::api::problem::{Code, FieldError, Problem};
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::signing::ed25519::PublicKey;
use crate::domain::signing::secret::Secret;
use crate::domain::signing::{MOST_IN_FORCE, Signing, TooMany};
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::{Change, Changed};
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::time::UnixMillis;

/// How long earlier keys go on signing unless the caller says otherwise, and at most, in seconds: a day, a week.
const OVERLAP_S: (u32, u32) = (86_400, 604_800);
/// Receivers may keep a set of public keys for so long; far less than an overlap usually is.
const KEPT_BY_RECEIVERS: &str = "public, max-age=300";

/// What was asked for.
struct Rotation {
    secret: Option<Secret>,
    overlap: Duration,
}

/// `POST /v1/subscriptions/{id}/rotate-secret`: a new secret, shown this once; earlier ones go on signing for a while.
pub(crate) async fn rotate(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let claim = idempotency::claim(&api, &caller, &request, &body).await?;
    let mut fields = Fields::of(if body.is_empty() { b"{}" } else { &body })?;
    let secret = fields.parsed("secret").value();
    let overlap_s = fields.number("overlap_s", 0..=OVERLAP_S.1).value().unwrap_or(OVERLAP_S.0);
    fields.finish()?;
    let rotation = Rotation { secret, overlap: Duration::from_secs(overlap_s.into()) };
    for _ in 0..CHANGE_TRIES {
        // Before anything is asked of the subscription, which is no longer as a first request found it.
        if let Some(first) = idempotency::first(&api, &caller, claim.as_ref()).await? {
            let (_, view) = view_of_first(&api, &caller, first.position).await?;
            return Ok(idempotency::replayed(&mut HttpResponse::Ok()).json(view));
        }
        let current = find(&api, &caller, &path).await?;
        let signing = rotation.of(current.definition.signing())?;
        let definition = current.definition.clone().signed_by(signing);
        let change = Change {
            key: claim.as_ref().map(|claim| claim.key.clone()),
            ..change::secret_rotated(Subscription { definition, ..current.clone() })
        };
        let by = actor(&caller.key.name, &request);
        match api.log.change(&change, Some(&current), &by).await? {
            Changed::Made { position, .. } => {
                let changed = Subscription { changed_at: position, ..change.subscription };
                return Ok(HttpResponse::Ok().json(SubscriptionView::with_secret(&changed)));
            }
            // Another node was asked the same at the same time; the next look finds what it answered.
            Changed::Replayed { .. } | Changed::Stale | Changed::NoRoom => {}
        }
    }
    Err(Problem::new(Code::Conflict, "others keep changing this subscription; try again"))
}

impl Rotation {
    fn of(&self, signing: &Signing) -> Result<Signing, Problem> {
        if self.secret.as_ref() == Some(signing.secret()) {
            let detail =
                "is the one in force already; leave it out, and a new one is made".to_owned();
            return Err(Problem::invalid(vec![FieldError { pointer: "/secret".into(), detail }]));
        }
        let secret = self.secret.clone().unwrap_or_else(|| Secret::from_random(rand::random()));
        let (seed, now) = (rand::random(), UnixMillis::now());
        let rotated = signing.clone().rotated(secret, seed, self.overlap, now);
        rotated.map_err(|TooMany { until }| {
            let detail = format!(
                "{MOST_IN_FORCE} secrets sign already, as many as may at once; rotate again after {until}, when one \
                 of them ends, or with overlap_s 0, which ends all but the new one"
            );
            Problem::new(Code::TooManySecrets, detail)
        })
    }
}

/// `GET /v1/subscriptions/{id}/public-key`: what receivers verify `v1a` with.
pub(crate) async fn public_key(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let subscription = find(&api, &caller, &path).await?;
    let keys = public_keys(&subscription);
    let current = keys.first().ok_or_else(|| {
        let detail = "this subscription's deliveries are not signed with v1a; a callback URL and \"v1a\" in its \
                      signatures see to that";
        Problem::new(Code::NotFound, detail)
    })?;
    Ok(HttpResponse::Ok().json(json!({
        "public_key": current.to_string(),
        "jwk": current.jwk(),
    })))
}

/// `GET /v1/subscriptions/{id}/jwks.json`: the same as a JSON Web Key Set (RFC 7517, section 5), earlier keys too while
/// they sign. No key is asked for: receivers fetch it, and there is nothing secret in it.
pub(crate) async fn jwks(
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let no_such = || Problem::not_found("set of keys");
    let id: SubscriptionId = path.parse().map_err(|_bad| no_such())?;
    let found = api.store.callbacks_by_id(&[id.stored()]).await?;
    let keys =
        found.first().map(public_keys).filter(|keys| !keys.is_empty()).ok_or_else(no_such)?;
    let keys: Vec<Value> = keys.iter().map(|key| json!(key.jwk())).collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, KEPT_BY_RECEIVERS))
        .json(json!({ "keys": keys })))
}

/// The public keys that are in force, the newest first; of a subscription that is pulled from, nothing is signed.
fn public_keys(subscription: &Subscription) -> Vec<PublicKey<'_>> {
    match &subscription.definition.channel {
        Channel::Webhook(webhook) => webhook.settings.signing.public_keys(UnixMillis::now()),
        Channel::Pull { .. } => Vec::new(),
    }
}
