//! Changing a subscription: PATCH, PUT, pause and resume.

use actix_web::{HttpResponse, web};

use super::definition_input::SubscriptionInput;
use super::read::find_subscription;
use super::verification::require_possible;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::JsonBody;
use crate::api::problem::{ApiResult, Problem};
use crate::domain::subscription::change::{self, Change, ChangeResult};
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::subscription::{Definition, Status, Subscription};

/// The maximum number of attempts to write a change, while other requests change the same subscription.
pub(super) const MAX_CHANGE_ATTEMPTS: u32 = 5;

/// Commits the change that `decide` returns for the current subscription; `None`: changes nothing. Starts over if another
/// request changes the subscription meanwhile; 409 after [`MAX_CHANGE_ATTEMPTS`] attempts.
pub(super) async fn apply_change(
    context: &Context,
    id: &str,
    decide: impl Fn(Subscription) -> ApiResult<Option<Change>>,
) -> ApiResult<Subscription> {
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        let current = find_subscription(context, id).await?;
        let Some(change) = decide(current.clone())? else { return Ok(current) };
        let changed = context.api.log.change(&change, Some(&current), &context.actor()).await?;
        if let ChangeResult::Applied { position, .. } = changed {
            return Ok(Subscription { changed_at: position, ..change.subscription });
        }
    }
    Err(Problem::concurrent_modification("subscription"))
}

/// `PATCH /v1/subscriptions/{id}`: changes the fields that the body has; null restores a field's default.
pub(super) async fn patch(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let patched = |current: &Subscription| {
        parse(&context, &body)?.into_patched_definition(current.definition.clone())
    };
    change_definition(&context, &id, patched).await
}

/// `PUT /v1/subscriptions/{id}`: a missing field gets its default, but the secret stays unless the body has one.
pub(super) async fn put(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let replaced = |current: &Subscription| {
        parse(&context, &body)?.into_definition(current.definition.signing().clone())
    };
    change_definition(&context, &id, replaced).await
}

fn parse(context: &Context, body: &JsonBody) -> ApiResult<SubscriptionInput> {
    let mut fields = body.fields()?;
    let input = SubscriptionInput::take(&mut fields, &context.api.targets);
    fields.finish()?;
    Ok(input)
}

/// Stores the definition that `new_definition` computes, and the status that follows. 403 if the key's event types do not
/// include the new patterns, 422 if this hub cannot verify the receiver.
async fn change_definition(
    context: &Context,
    id: &str,
    new_definition: impl Fn(&Subscription) -> ApiResult<Definition>,
) -> ApiResult {
    let changed = apply_change(context, id, |current| {
        let definition = new_definition(&current)?.replacing(&current.definition);
        require_possible(&context.api, &definition, Some(&current.definition))?;
        context.caller.require_patterns(&definition.event_types)?;
        if definition == current.definition {
            return Ok(None);
        }
        let same_receiver = definition.channel.has_same_receiver(&current.definition.channel);
        // A new receiver starts without the failures of the old one.
        let status = match current.status {
            Status::Paused | Status::Disabled => current.status,
            Status::Failing if same_receiver && !definition.awaits_verification() => {
                Status::Failing
            }
            _ => definition.running_status(),
        };
        Ok(Some(change::updated(Subscription { definition, status, ..current })))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&changed.await?)))
}

/// `POST /v1/subscriptions/{id}/pause`: stops deliveries, verification and pulling. A paused or disabled subscription is
/// not changed.
pub(super) async fn pause(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let paused = apply_change(&context, &id, |current| {
        let can_pause = current.status.is_delivering() || current.status == Status::Unverified;
        Ok(can_pause.then(|| change::paused(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&paused.await?)))
}

/// `POST /v1/subscriptions/{id}/resume`: makes a paused, disabled or failing subscription active again, or `unverified`
/// if the receiver is not verified.
pub(super) async fn resume(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let resumed = apply_change(&context, &id, |current| {
        let is_resumed = current.status == current.definition.running_status();
        Ok((!is_resumed).then(|| change::resumed(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&resumed.await?)))
}
