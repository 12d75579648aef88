//! Creating a subscription.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;

use super::definition_input::SubscriptionInput;
use super::repeat::first_view;
use super::start::starts_after;
use super::verification::require_possible;
use crate::access::quotas::Quota;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::idempotency;
use crate::api::http::input::JsonBody;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::signing::Signing;
use crate::domain::signing::secret::Secret;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change;
use crate::domain::subscription::change::ChangeResult;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::time::UnixMillis;

/// The delay that the hub names to a client whose tenant has reached its quota of subscriptions.
const QUOTA_RETRY_S: u32 = 60;

/// `POST /v1/subscriptions`: creates a subscription. The response shows its secret; so does an idempotent repeat.
pub(super) async fn create(Authorized(context, body): Authorized<JsonBody>) -> ApiResult {
    let (api, caller) = (&context.api, &context.caller);
    let claim = idempotency::claim(&context, &body.0).await?;
    if let Some(first) = idempotency::first_response(&context, claim.as_ref()).await? {
        return respond_to_repeat(&context, first.position).await;
    }
    let mut fields = body.fields()?;
    let input = SubscriptionInput::take(&mut fields, &api.targets);
    let starts_after = starts_after(&mut fields, api.log.head());
    fields.finish()?;
    let definition = input.into_definition(Signing::new(Secret::from_random(rand::random())))?;
    require_possible(api, &definition, None)?;
    caller.require_patterns(&definition.event_types)?;
    let subscription = Subscription {
        id: SubscriptionId::new(UnixMillis::now(), rand::random()),
        tenant: Arc::clone(&caller.tenant),
        status: definition.running_status(),
        definition,
        disabled_reason: None,
        changed_at: Position::START,
    };
    let key = claim.as_ref().map(|claim| claim.key.clone());
    let quota = api.quotas.quotas_of(&caller.tenant).subscriptions;
    let change = change::created(subscription, quota, starts_after, key);
    match api.log.change(&change, None, &context.actor()).await? {
        ChangeResult::Applied { position, .. } => {
            let created = Subscription { changed_at: position, ..change.subscription };
            Ok(HttpResponse::Created()
                .insert_header((LOCATION, path_of(created.id)))
                .json(SubscriptionView::with_secret(&created)))
        }
        ChangeResult::Replayed { position, fingerprint } => {
            if let Some(claim) = &claim {
                claim.require_same_request(&fingerprint)?;
            }
            respond_to_repeat(&context, Some(position)).await
        }
        ChangeResult::Stale => {
            Err(Problem::new(Code::Conflict, "another subscription has the generated id; retry"))
        }
        ChangeResult::QuotaExceeded => Err(over_quota(&context, quota)),
    }
}

/// Counts the rejection and creates a 429 `quota_exceeded` problem.
fn over_quota(context: &Context, limit: u32) -> Problem {
    context.api.quotas.count_rejection(Quota::Subscriptions, &context.caller.tenant);
    let rate_limit = RateLimitStatus { limit, remaining: 0, reset_s: QUOTA_RETRY_S };
    let detail = format!(
        "this tenant has {limit} subscriptions, its limit (quota subscriptions); delete one, or ask the operator for a \
         higher quota"
    );
    Problem::over_quota(Code::QuotaExceeded, rate_limit, detail)
}

/// Returns the path of a subscription, for the `Location` header.
fn path_of(id: SubscriptionId) -> String {
    format!("/v1/subscriptions/{id}")
}

/// The response to a repeat with the same idempotency key. `position`: the log entry of the first request.
async fn respond_to_repeat(context: &Context, position: Option<Position>) -> ApiResult {
    let first = first_view(context, position).await?;
    let mut response = HttpResponse::Created();
    if let Some(id) = first.id {
        response.insert_header((LOCATION, path_of(id)));
    }
    Ok(idempotency::mark_replayed(&mut response).json(first.view))
}
