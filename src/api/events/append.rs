//! Appending events to the log for a request.

use std::sync::Arc;

use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::auth::caller::Caller;
use crate::api::http::idempotency::{Claim, replayed};
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::event::NewEvent;
use crate::domain::event::event_type::EventType;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::store::log::{AppendOutcome, AppendRequest};

/// The events of one request after the append.
pub(crate) struct Appended {
    /// The position of the first event. The others follow without a gap.
    pub(crate) first: Position,
    /// A 202 response without a body, marked as a replay if an earlier request with the same key appended the events.
    pub(crate) response: HttpResponseBuilder,
}

/// Appends `events` to the log of the caller's tenant, and returns once they are durable.
///
/// With a `claim`, a repeat of the request appends nothing and gets the first position. 422 if another request used the
/// key.
pub(crate) async fn append(
    api: &Api,
    caller: &Caller,
    claim: Option<Claim>,
    events: Vec<NewEvent>,
) -> Result<Appended, Problem> {
    let key = claim.as_ref().map(|claim| claim.key.clone());
    let request = AppendRequest { tenant: Arc::clone(&caller.tenant), key, events };
    let mut response = HttpResponse::Accepted();
    let first = match (api.log.append(request).await?, claim) {
        (AppendOutcome::Replayed { first, fingerprint }, Some(claim)) => {
            claim.require_same_request(&fingerprint)?;
            replayed(&mut response);
            first
        }
        (AppendOutcome::Appended(first) | AppendOutcome::Replayed { first, .. }, _) => first,
    };
    Ok(Appended { first, response })
}

/// Creates an event of the hub about a subscription, such as a request to retry a delivery. Does not append it.
pub(crate) fn event_about(id: SubscriptionId, event_type: EventType, data: &Value) -> NewEvent {
    let data = Bytes::from(data.to_string());
    NewEvent { event_type, about: Some(id), occurred_at: None, data }
}

/// Returns the JSON by which a publisher learns the id, type and time of an appended event.
pub(crate) fn receipt(position: Position, event: &NewEvent) -> Value {
    let timestamp = event.occurred_at.unwrap_or_else(|| position.time());
    json!({ "id": position.to_string(), "type": event.event_type.as_str(), "timestamp": timestamp })
}
