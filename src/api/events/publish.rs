//! `POST /v1/events`, and appending events to the log for any request.

use std::sync::Arc;

use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde_json::{Value, json};

use super::publish_input::{Publish, parse};
use crate::api::auth::caller::Caller;
use crate::api::auth::context::Authorized;
use crate::api::http::idempotency::{self, Claim, mark_replayed};
use crate::api::http::input::PublishBody;
use crate::api::http::rate_limit;
use crate::api::http::rate_limit_headers::insert_rate_limit;
use crate::api::problem::ApiResult;
use crate::api::state::Api;
use crate::domain::event::NewEvent;
use crate::domain::event::event_type::EventType;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::store::log::{AppendOutcome, AppendRequest};

/// `POST /v1/events`: 202 once all valid events are durable.
pub(super) async fn publish(Authorized(context, body): Authorized<PublishBody>) -> ApiResult {
    let (api, caller) = (&context.api, &context.caller);
    let quotas = api.quotas.quotas_of(&caller.tenant);
    let publish = parse(body.content_type, &body.bytes, quotas.event_bytes)?
        .permitted_by(|event_type| caller.require_event_type(event_type))?;
    let mut claim = idempotency::claim(&context, &body.bytes).await?;
    if let Some(claim) = &mut claim {
        claim.add_to_fingerprint(&publish.invalid_indexes());
    }
    let events = publish.valid_events();
    let rate_limit = rate_limit::admit(api, caller, quotas.events_per_s, events.len())?;
    // Without valid events there is nothing to append. An idempotency key is stored even then.
    let Appended { first, mut response } = if events.is_empty() && claim.is_none() {
        Appended { first: Position::START, response: HttpResponse::Accepted() }
    } else {
        append(api, caller, claim, events).await?
    };
    if let Some(rate_limit) = rate_limit {
        insert_rate_limit(&mut response, rate_limit);
    }
    Ok(match publish {
        Publish::One(event) => response.json(receipt(first, &event)),
        Publish::Batch(items) => response.json(json!({ "data": receipts(first, &items) })),
    })
}

/// The result of each item, a receipt or an error. Valid events follow `first` without a gap.
fn receipts(first: Position, items: &[ApiResult<NewEvent>]) -> Vec<Value> {
    let mut next = first;
    let receipt_of = |item: &ApiResult<NewEvent>| match item {
        Ok(event) => {
            let receipt = receipt(next, event);
            next = next.advanced(1);
            receipt
        }
        Err(problem) => problem.as_item(),
    };
    items.iter().map(receipt_of).collect()
}

pub(crate) struct Appended {
    /// The position of the first event. The others follow without a gap.
    pub(crate) first: Position,
    /// A 202 response without a body, marked as a replay if an earlier request with the same key appended the events.
    pub(crate) response: HttpResponseBuilder,
}

/// Appends `events` and returns once they are durable. A repeat with the same claimed idempotency key appends nothing;
/// 422 if a different request used the key.
pub(crate) async fn append(
    api: &Api,
    caller: &Caller,
    claim: Option<Claim>,
    events: Vec<NewEvent>,
) -> ApiResult<Appended> {
    let key = claim.as_ref().map(|claim| claim.key.clone());
    let request = AppendRequest { tenant: Arc::clone(&caller.tenant), key, events };
    let mut response = HttpResponse::Accepted();
    let first = match (api.log.append(request).await?, claim) {
        (AppendOutcome::Replayed { first, fingerprint }, Some(claim)) => {
            claim.require_same_request(&fingerprint)?;
            mark_replayed(&mut response);
            first
        }
        (AppendOutcome::Appended(first) | AppendOutcome::Replayed { first, .. }, _) => first,
    };
    Ok(Appended { first, response })
}

/// Creates an event of the hub about a subscription, such as the request to retry a delivery. Does not append it.
pub(crate) fn event_about(id: SubscriptionId, event_type: EventType, data: &Value) -> NewEvent {
    let data = Bytes::from(data.to_string());
    NewEvent { event_type, about: Some(id), occurred_at: None, data }
}

/// The confirmation for the publisher: id, type and time.
pub(crate) fn receipt(position: Position, event: &NewEvent) -> Value {
    let timestamp = event.occurred_at.unwrap_or_else(|| position.time());
    json!({ "id": position.to_string(), "type": event.event_type.as_str(), "timestamp": timestamp })
}
