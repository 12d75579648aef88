//! Retrying a delivery on request.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::view::{DeliveryState, DeliveryView, History};
use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::require_visible;
use crate::api::events::publish::{append, event_about};
use crate::api::events::read::find_event;
use crate::api::http::idempotency;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::subscriptions::read::find_subscription;
use crate::domain::delivery::retry::RetryRequest;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::version::matches_event;

/// `POST /v1/deliveries/{subscription}/{event}/retry`: requests one more attempt, whatever the outcome so far. 202. 404 if
/// the event does not match the subscription. 409 for a pull subscription, or if no attempt has ended yet.
pub(super) async fn retry(
    Authorized(context, _): Authorized,
    path: web::Path<(String, String)>,
) -> ApiResult {
    let (api, caller) = (&context.api, &context.caller);
    let claim = idempotency::claim(&context, b"").await?;
    let (subscription, event) = path.into_inner();
    if idempotency::first_response(&context, claim.as_ref()).await?.is_some() {
        let id = subscription.parse().map_err(|_bad| Problem::not_found("subscription"))?;
        let event = event.parse().map_err(|_bad| Problem::not_found("event"))?;
        require_visible(api, caller, id).await?;
        return Ok(
            idempotency::mark_replayed(&mut HttpResponse::Accepted()).json(accepted(id, event))
        );
    }
    let subscription = find_subscription(&context, &subscription).await?;
    let event = find_event(&context, &event).await?;
    match subscription.definition.channel {
        Channel::Webhook(_) => {}
        Channel::Pull { .. } => {
            let detail = "the subscription has no callback_url: its clients pull the event, and no delivery can be retried";
            return Err(Problem::new(Code::Conflict, detail));
        }
    }
    let (id, position) = (subscription.id, event.position);
    let versions = api.store.select_versions_of(id).await?;
    if !matches_event(&event, id, &caller.tenant, &versions) {
        return Err(Problem::not_found("delivery: the event does not match this subscription"));
    }
    let history = History::read(&api.store, &[id.stored()], &[position.stored()]).await?;
    let delivery = DeliveryView::new(id, &event, &history, false);
    if delivery.status == DeliveryState::Pending {
        let detail =
            "the first attempt of this delivery has not ended yet; retry is possible after it";
        return Err(Problem::new(Code::DeliveryPending, detail));
    }
    let request = RetryRequest {
        subscription: id.to_string(),
        event: position,
        attempts: u16::try_from(delivery.attempt_count()).unwrap_or(u16::MAX),
    };
    let response = accepted(id, position);
    context.audit("delivery.retried", &id, response.clone()).await?;
    let event = event_about(id, RetryRequest::entry_type(), &json!(request));
    let mut appended = append(api, caller, claim, vec![event]).await?;
    Ok(appended.response.json(response))
}

fn accepted(id: SubscriptionId, event: Position) -> Value {
    json!({ "subscription": id.to_string(), "event": event.to_string() })
}
