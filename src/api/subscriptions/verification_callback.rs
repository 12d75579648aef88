//! The consent that a receiver gives some time after it was asked. It has no key of the hub's: what it shows is what the
//! handshake gave to it alone.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::api::auth::caller::only;
use crate::api::http::query::Query;
use crate::api::operator::audit::actor;
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::egress::origin::Origin;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::Changed;
use crate::domain::subscription::channel::{Channel, Webhook};
use crate::domain::subscription::verification::{VerificationMethod, Verified, allowed_rate};
use crate::domain::time::UnixMillis;

/// Who agreed, in the audit log: one who has no key.
const RECEIVER: &str = "receiver";
/// How often it is noted anew because another change came between.
const CHANGE_TRIES: u32 = 5;
const SECRET: &str = "x-hook-secret";
const RATE: &str = "webhook-allowed-rate";

/// What a receiver shows.
enum Proof<'a> {
    /// The `X-Hook-Secret` that it was sent.
    Secret(&'a str),
    /// The token of the URL that it was sent.
    Token(&'a str),
}

impl Proof<'_> {
    /// Whether it was given to the receiver of this subscription.
    fn is_for(&self, subscription: &Subscription, token_key: &[u8]) -> bool {
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

/// `POST /v1/subscriptions/{id}/verification` with the `X-Hook-Secret` that the receiver was sent, or, for CloudEvents,
/// GET or POST with `?token=` and perhaps a `WebHook-Allowed-Rate`: from now on it is sent its events.
pub(crate) async fn give(
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["token"])?;
    let header = |name| {
        only(&request, name).map(|value| value.map(|value| value.to_str().unwrap_or_default()))
    };
    let (proof, rate) = (proof(header(SECRET)?, query.text("token"))?, header(RATE)?);
    for _ in 0..CHANGE_TRIES {
        let subscription = proven(&api, &path, &proof).await?;
        let consent = match proof {
            Proof::Secret(_) => Verified::unlimited(UnixMillis::now()),
            Proof::Token(_) => {
                let asked = subscription.definition.delivery().rate_limit_per_minute();
                let rate_per_minute = allowed_rate(rate, asked)
                    .map_err(|error| Problem::new(Code::InvalidHeader, error.to_string()))?;
                let origin = api.origin.as_ref().map(Origin::as_str).map(str::to_owned);
                Verified { at: UnixMillis::now(), origin, rate_per_minute }
            }
        };
        // Who merely looks at a link has not agreed.
        let is_over =
            request.method() == Method::HEAD || !subscription.definition.awaits_verification();
        if is_over || is_noted(&api, &request, &subscription, consent).await? {
            return Ok(answer(&request, &path));
        }
    }
    Err(Problem::new(Code::Conflict, "others keep changing this subscription; try again"))
}

fn proof<'a>(secret: Option<&'a str>, token: Option<&'a str>) -> Result<Proof<'a>, Problem> {
    match (secret, token) {
        (Some(secret), None) => Ok(Proof::Secret(secret)),
        (None, Some(token)) => Ok(Proof::Token(token)),
        _ => {
            let detail =
                "show what the handshake gave you: the X-Hook-Secret, or the token of the URL";
            Err(Problem::new(Code::Unauthorized, detail))
        }
    }
}

/// The subscription whose receiver was given the proof. Whether there is another one is nobody's business.
async fn proven(api: &Api, id: &str, proof: &Proof<'_>) -> Result<Subscription, Problem> {
    let found = match id.parse::<SubscriptionId>() {
        Ok(id) => api.store.callbacks_by_id(&[id.stored()]).await?.pop(),
        Err(_bad) => None,
    };
    found.filter(|found| proof.is_for(found, &api.consent_key)).ok_or_else(|| {
        let detail = "this is not what the handshake gave to the receiver of such a subscription";
        Problem::new(Code::Forbidden, detail)
    })
}

/// Notes a consent, unless another change came between.
async fn is_noted(
    api: &Api,
    request: &HttpRequest,
    subscription: &Subscription,
    consent: Verified,
) -> Result<bool, Problem> {
    let (id, by) = (subscription.id, actor(RECEIVER, request));
    let change = change::verified(subscription.clone(), consent);
    if api.log.change(&change, Some(subscription), &by).await? == Changed::Stale {
        return Ok(false);
    }
    tracing::info!(subscription = %id, "a receiver has agreed, some time after it was asked");
    Ok(true)
}

/// A person who follows the link sees something; programs need nothing.
fn answer(request: &HttpRequest, id: &str) -> HttpResponse {
    if request.method() == Method::POST {
        HttpResponse::NoContent().finish()
    } else {
        HttpResponse::Ok().json(json!({ "subscription": id, "verified": true }))
    }
}
