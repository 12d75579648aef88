//! The verification of a subscription's receiver, as its owner sees it.

use serde_json::{Map, Value, json};

use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::subscription::verification::VerificationMethod;
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::store::StoreError;

/// Checks that this hub can make a verification that a changed definition needs; CloudEvents needs an origin.
///
/// `former`: the definition before the change, `None` for a new subscription.
pub(super) fn require_possible(
    api: &Api,
    definition: &Definition,
    former: Option<&Definition>,
) -> Result<(), Problem> {
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
pub(crate) fn require_verified(subscription: &Subscription) -> Result<(), Problem> {
    if subscription.definition.awaits_verification() {
        let detail = "the receiver is not verified yet (see verification); POST …/verify starts another attempt";
        return Err(Problem::new(Code::SubscriptionUnverified, detail));
    }
    Ok(())
}

/// Adds the attempts of an unfinished verification to the JSON `view` of a subscription.
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
