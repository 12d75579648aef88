//! The verification of a subscription's receiver, as its owner sees it.

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::read::find_subscription;
use crate::api::auth::context::Authorized;
use crate::api::events::publish::{append, event_about};
use crate::api::http::idempotency;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::subscription::command::Command;
use crate::domain::subscription::verification::VerificationMethod;
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::store::StoreError;

/// 422 if this hub cannot verify the receiver: CloudEvents needs a configured origin. `former`: the definition before a
/// change; a verification that stays the same is not checked.
pub(super) fn require_possible(
    api: &Api,
    definition: &Definition,
    former: Option<&Definition>,
) -> ApiResult<()> {
    let verification = definition.channel.verification();
    if former.is_some_and(|former| former.channel.verification() == verification) {
        return Ok(());
    }
    let needs_origin =
        verification.is_some_and(|one| one.method == VerificationMethod::CloudEvents);
    if !needs_origin || api.origin.is_some() {
        return Ok(());
    }
    let detail = "this hub has no origin for CloudEvents verification; its operator sets HOOKHUB_WEBHOOK_ORIGIN, or \
                  HOOKHUB_PUBLIC_URL with a host name";
    Err(Problem::invalid_field("/handshake", detail))
}

/// Checks that the receiver is verified, before an action that sends something to it; else 409.
pub(crate) fn require_verified(subscription: &Subscription) -> ApiResult<()> {
    if subscription.definition.awaits_verification() {
        let detail = "the receiver is not verified yet (see verification); POST …/verify starts another attempt";
        return Err(Problem::new(Code::SubscriptionUnverified, detail));
    }
    Ok(())
}

/// Adds to `view` the number of attempts, the time and error of the last, and the time of the next. Adds nothing once the
/// receiver is verified.
pub(super) async fn add_progress(
    api: &Api,
    subscription: &Subscription,
    view: &mut Map<String, Value>,
) -> Result<(), StoreError> {
    let definition = &subscription.definition;
    let Some(verification) =
        definition.channel.verification().filter(|_| definition.awaits_verification())
    else {
        return Ok(());
    };
    let attempts =
        api.store.select_verification(subscription.id, verification.requested_at).await?;
    let is_running = subscription.status == Status::Unverified;
    if let Some(Value::Object(members)) = view.get_mut("verification") {
        let attempts = attempts.as_ref();
        let next = attempts.and_then(|one| one.next_attempt_at).filter(|_| is_running);
        members.insert("attempts".into(), json!(attempts.map_or(0, |one| one.attempts)));
        members.insert("last_attempt_at".into(), json!(attempts.map(|one| one.last_attempt_at)));
        members.insert("last_error".into(), json!(attempts.map(|one| &one.last_error)));
        members.insert("next_attempt_at".into(), json!(next));
    }
    Ok(())
}

/// `POST /v1/subscriptions/{id}/verify`: attempts the verification again now, and restarts its schedule. 202. 409 unless
/// the status is `unverified`.
pub(super) async fn verify(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let claim = idempotency::claim(&context, b"").await?;
    let subscription = find_subscription(&context, &id).await?;
    let response = json!({ "subscription": subscription.id.to_string() });
    if idempotency::first_response(&context, claim.as_ref()).await?.is_some() {
        return Ok(idempotency::mark_replayed(&mut HttpResponse::Accepted()).json(response));
    }
    if subscription.status != Status::Unverified {
        let detail = match subscription.definition.channel.verification() {
            None => "the subscription has no handshake".to_owned(),
            Some(_) if subscription.definition.awaits_verification() => {
                format!("the subscription is {}; resume it first", subscription.status.name())
            }
            Some(_) => "the receiver is already verified".to_owned(),
        };
        return Err(Problem::new(Code::NothingToVerify, detail));
    }
    context.audit("verification.requested", &subscription.id, response.clone()).await?;
    let event = event_about(subscription.id, Command::verify_entry_type(), &response);
    let mut appended = append(&context.api, &context.caller, claim, vec![event]).await?;
    Ok(appended.response.json(response))
}
