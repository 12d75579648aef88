//! Handshakes as a subscription's owner sees them: whether they can be made, how they stand, one more attempt.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use crate::api::auth::caller::Caller;
use crate::api::deliveries::entry;
use crate::api::events::append::append;
use crate::api::http::idempotency;
use crate::api::http::query::Query;
use crate::api::operator::audit;
use crate::api::problem::{Code, FieldError, Problem};
use crate::api::state::Api;
use crate::api::subscriptions;
use crate::domain::subscription::command::Request;
use crate::domain::subscription::verification::VerificationMethod;
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::store::StoreError;

/// Refuses a definition whose handshake cannot be made; `former` is what it takes the place of.
pub(crate) fn must_be_possible(
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
    let detail = "this hub has no name to ask receivers with; its operator sets HOOKHUB_WEBHOOK_ORIGIN, or \
                  HOOKHUB_PUBLIC_URL with a host name";
    Err(Problem::invalid(vec![FieldError { pointer: "/handshake".into(), detail: detail.into() }]))
}

/// Refuses what cannot be done for a subscription whose receiver has not agreed yet.
pub(crate) fn must_not_be_awaited(subscription: &Subscription) -> Result<(), Problem> {
    if subscription.definition.awaits_verification() {
        let detail = "its receiver has not agreed yet to being sent anything (see verification); \
                      POST …/verify asks it again";
        return Err(Problem::new(Code::SubscriptionUnverified, detail));
    }
    Ok(())
}

/// Puts to a subscription's view how far its handshake has come, while that is outstanding.
pub(crate) async fn show(
    api: &Api,
    subscription: &Subscription,
    view: &mut Map<String, Value>,
) -> Result<(), StoreError> {
    let definition = &subscription.definition;
    let Some(handshake) =
        definition.channel.verification().filter(|_| definition.awaits_verification())
    else {
        return Ok(());
    };
    let tried = api.store.verification(subscription.id, handshake.requested_at).await?;
    let is_asked = subscription.status == Status::Unverified;
    if let Some(Value::Object(members)) = view.get_mut("verification") {
        let next = tried.as_ref().and_then(|tried| tried.next_attempt_at).filter(|_| is_asked);
        members.insert("attempts".into(), json!(tried.as_ref().map_or(0, |tried| tried.attempts)));
        members.insert(
            "last_attempt_at".into(),
            json!(tried.as_ref().map(|tried| tried.last_attempt_at)),
        );
        members.insert("last_error".into(), json!(tried.as_ref().map(|tried| &tried.last_error)));
        members.insert("next_attempt_at".into(), json!(next));
    }
    Ok(())
}

/// `POST /v1/subscriptions/{id}/verify`: the receiver is asked once more, now, and by the schedule from now on.
pub(crate) async fn verify(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let claim = idempotency::claim(&api, &caller, &request, b"").await?;
    let subscription = subscriptions::find(&api, &caller, &path).await?;
    let said = json!({ "subscription": subscription.id.to_string() });
    if idempotency::first(&api, &caller, claim.as_ref()).await?.is_some() {
        return Ok(idempotency::replayed(&mut HttpResponse::Accepted()).json(said));
    }
    if subscription.status != Status::Unverified {
        let detail = match subscription.definition.channel.verification() {
            None => "the subscription asks for no handshake".to_owned(),
            Some(_) if subscription.definition.awaits_verification() => {
                format!("the subscription is {}; resume it first", subscription.status.name())
            }
            Some(_) => "its receiver has agreed already".to_owned(),
        };
        return Err(Problem::new(Code::NothingToVerify, detail));
    }
    let by = (&caller, &request);
    audit::note(&api, by, "verification.requested", &subscription.id, said.clone()).await?;
    let entry = entry(subscription.id, Request::verify_entry_type(), &said);
    let (_, mut response) = append(&api, &caller, claim, entry).await?;
    Ok(response.json(said))
}
