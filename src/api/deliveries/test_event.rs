//! Sending a test event to a subscription.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::require_visible;
use crate::api::events::publish::{append, event_about};
use crate::api::http::rate_limit_headers::insert_rate_limit;
use crate::api::http::{idempotency, rate_limit};
use crate::api::problem::{ApiResult, Problem};
use crate::api::subscriptions::read::find_subscription;
use crate::api::subscriptions::verification::require_verified;
use crate::domain::event::event_type::EventType;
use crate::domain::position::Position;
use crate::domain::subscription::TEST_EVENT;
use crate::store::idempotency::StoredResponse;

/// `POST /v1/subscriptions/{id}/test`: publishes a `hookhub.test` event that matches only this subscription. 409 if the
/// receiver is not verified yet, 429 above the event rate.
pub(super) async fn send(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let (api, caller) = (&context.api, &context.caller);
    let claim = idempotency::claim(&context, b"").await?;
    if let Some(StoredResponse { position: Some(position), .. }) =
        idempotency::first_response(&context, claim.as_ref()).await?
    {
        let id = id.parse().map_err(|_bad| Problem::not_found("subscription"))?;
        require_visible(api, caller, id).await?;
        return Ok(
            idempotency::mark_replayed(&mut HttpResponse::Accepted()).json(receipt(position))
        );
    }
    let subscription = find_subscription(&context, &id).await?;
    require_verified(&subscription)?;
    let rate = api.quotas.quotas_of(&caller.tenant).events_per_s;
    let rate_limit = rate_limit::admit(api, caller, rate, 1)?;
    let data = json!({ "subscription": subscription.id.to_string(), "message": "a test event, sent on request" });
    let event = event_about(subscription.id, EventType::from_stored(TEST_EVENT), &data);
    context.audit("subscription.tested", &subscription.id, data).await?;
    let mut appended = append(api, caller, claim, vec![event]).await?;
    if let Some(rate_limit) = rate_limit {
        insert_rate_limit(&mut appended.response, rate_limit);
    }
    Ok(appended.response.json(receipt(appended.first)))
}

fn receipt(position: Position) -> Value {
    json!({ "id": position.to_string(), "type": TEST_EVENT, "timestamp": position.time() })
}
