//! `POST /v1/events`.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::append::{Appended, append, receipt};
use super::publish_input::{Publish, parse};
use crate::api::auth::context::Authorized;
use crate::api::http::input::PublishBody;
use crate::api::http::rate_limit_headers::insert_rate_limit;
use crate::api::http::{idempotency, rate_limit};
use crate::api::problem::Problem;
use crate::domain::event::NewEvent;
use crate::domain::position::Position;

/// `POST /v1/events`: publishes events. Responds 202 once all valid events are durable.
pub(super) async fn publish(
    Authorized(context, body): Authorized<PublishBody>,
) -> Result<HttpResponse, Problem> {
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
    // Without events there is nothing to append, except that an idempotency key is stored all the same.
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

/// Returns the result of each item of a batch: a receipt or an error. `first`: the position of the first valid event.
fn receipts(first: Position, items: &[Result<NewEvent, Problem>]) -> Vec<Value> {
    let mut next = first;
    let receipt_of = |item: &Result<NewEvent, Problem>| match item {
        Ok(event) => {
            let receipt = receipt(next, event);
            next = next.advanced(1);
            receipt
        }
        Err(problem) => problem.as_item(),
    };
    items.iter().map(receipt_of).collect()
}
