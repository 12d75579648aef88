//! The confirmation that a receiver sends some time after a verification request.
//!
//! The receiver has no key of the hub. It authenticates with the secret or the token of the verification request.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::change::MAX_CHANGE_ATTEMPTS;
use crate::api::auth::context::actor;
use crate::api::http::headers::single_header;
use crate::api::http::query::Query;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::egress::origin::Origin;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::ChangeResult;
use crate::domain::subscription::channel::{Channel, Webhook};
use crate::domain::subscription::verification::{VerificationMethod, Verified, allowed_rate};
use crate::domain::time::UnixMillis;

/// The name in the audit log for a receiver, which has no key.
const RECEIVER: &str = "receiver";
const SECRET: &str = "x-hook-secret";
const RATE: &str = "webhook-allowed-rate";

/// The proof that a confirmation comes from the receiver.
enum Proof<'a> {
    /// The `X-Hook-Secret` of the verification request.
    Secret(&'a str),
    /// The token of the URL in the verification request.
    Token(&'a str),
}

impl<'a> Proof<'a> {
    /// Returns the proof that a confirmation request carries: the secret or the token. 401 with both or with neither.
    fn new(secret: Option<&'a str>, token: Option<&'a str>) -> ApiResult<Self> {
        match (secret, token) {
            (Some(secret), None) => Ok(Self::Secret(secret)),
            (None, Some(token)) => Ok(Self::Token(token)),
            _ => {
                let detail =
                    "send either the X-Hook-Secret or the token of the verification request";
                Err(Problem::new(Code::Unauthorized, detail))
            }
        }
    }

    /// Whether the hub sent this proof to verify this subscription. `token_key`: the key that signs tokens.
    fn is_valid_for(&self, subscription: &Subscription, token_key: &[u8]) -> bool {
        let (url, verification) = match &subscription.definition.channel {
            Channel::Webhook(Webhook { url, verification: Some(verification), .. }) => {
                (url, verification)
            }
            Channel::Webhook(_) | Channel::Pull { .. } => return false,
        };
        match (self, verification.method) {
            (Self::Secret(text), VerificationMethod::XHookSecret) => {
                text.as_bytes().ct_eq(verification.secret.reveal().as_bytes()).into()
            }
            (Self::Token(text), VerificationMethod::CloudEvents) => {
                verification.is_token(text, token_key, subscription.id, url)
            }
            _ => false,
        }
    }
}

/// `GET` or `POST /v1/subscriptions/{id}/verification`, with the header `X-Hook-Secret`, or with `?token=` and an optional
/// `WebHook-Allowed-Rate` (CloudEvents).
pub(super) async fn confirm(
    id: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> ApiResult {
    let query = Query::parse(&request, &["token"])?;
    let header = |name| {
        let value = single_header(&request, name)?;
        Ok::<_, Problem>(value.map(|value| value.to_str().unwrap_or_default()))
    };
    let (proof, rate) = (Proof::new(header(SECRET)?, query.text("token"))?, header(RATE)?);
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        let subscription = proven_subscription(&api, &id, &proof).await?;
        let verified = verified(&api, &subscription, &proof, rate)?;
        // HEAD must not change anything: mail and chat programs send it to preview a link.
        let is_done =
            request.method() == Method::HEAD || !subscription.definition.awaits_verification();
        if is_done || record(&api, &request, &subscription, verified).await? {
            return Ok(respond(&request, &id));
        }
    }
    Err(Problem::concurrent_modification("subscription"))
}

/// The result of the verification that `proof` confirms. `rate`: the header `WebHook-Allowed-Rate`, in POSTs per minute,
/// which counts only with a token. 400 if it is invalid.
fn verified(
    api: &Api,
    subscription: &Subscription,
    proof: &Proof<'_>,
    rate: Option<&str>,
) -> ApiResult<Verified> {
    let now = UnixMillis::now();
    match proof {
        Proof::Secret(_) => Ok(Verified::unlimited(now)),
        Proof::Token(_) => {
            let requested = subscription.definition.delivery().rate_limit_per_minute();
            let rate_per_minute = allowed_rate(rate, requested)
                .map_err(|error| Problem::new(Code::InvalidHeader, error.to_string()))?;
            let origin = api.origin.as_ref().map(Origin::as_str).map(str::to_owned);
            Ok(Verified { at: now, origin, rate_per_minute })
        }
    }
}

/// 403 without a valid proof, whether or not the subscription exists.
async fn proven_subscription(api: &Api, id: &str, proof: &Proof<'_>) -> ApiResult<Subscription> {
    let found = match id.parse::<SubscriptionId>() {
        Ok(id) => api.store.select_webhooks_by_id(&[id.stored()]).await?.pop(),
        Err(_bad) => None,
    };
    found.filter(|found| proof.is_valid_for(found, &api.verification_key)).ok_or_else(|| {
        let detail = "the secret or token is not valid for this subscription";
        Problem::new(Code::Forbidden, detail)
    })
}

/// Stores that the receiver is verified. Returns false if another request changed the subscription meanwhile.
async fn record(
    api: &Api,
    request: &HttpRequest,
    subscription: &Subscription,
    verified: Verified,
) -> ApiResult<bool> {
    let (id, actor) = (subscription.id, actor(RECEIVER, request));
    let change = change::verified(subscription.clone(), verified);
    if api.log.change(&change, Some(subscription), &actor).await? == ChangeResult::Stale {
        return Ok(false);
    }
    tracing::info!(subscription = %id, "a receiver confirmed its verification request");
    Ok(true)
}

/// Builds the response: 200 with a body for a person who follows the link (GET), 204 for a program (POST).
fn respond(request: &HttpRequest, id: &str) -> HttpResponse {
    if request.method() == Method::POST {
        HttpResponse::NoContent().finish()
    } else {
        HttpResponse::Ok().json(json!({ "subscription": id, "verified": true }))
    }
}
