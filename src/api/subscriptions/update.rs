//! `PATCH` and `PUT /v1/subscriptions/{id}`.

use actix_web::{HttpResponse, web};

use super::change::apply_change;
use super::definition_input::SubscriptionInput;
use super::verification::require_possible;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::JsonBody;
use crate::api::problem::Problem;
use crate::domain::subscription::change;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::subscription::{Definition, Status, Subscription};

/// `PATCH /v1/subscriptions/{id}`: changes the fields in the body. Null restores a default.
pub(super) async fn patch(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let patched = |current: &Subscription| {
        parse(&context, &body)?.into_patched_definition(current.definition.clone())
    };
    change_definition(&context, &id, patched).await
}

/// `PUT /v1/subscriptions/{id}`: replaces the definition; a missing field has its default. The secret stays unless the
/// body has one.
pub(super) async fn put(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let replaced = |current: &Subscription| {
        parse(&context, &body)?.into_definition(current.definition.signing().clone())
    };
    change_definition(&context, &id, replaced).await
}

/// Parses the fields of a definition from the body. 422 for invalid fields.
fn parse(context: &Context, body: &JsonBody) -> Result<SubscriptionInput, Problem> {
    let mut fields = body.fields()?;
    let input = SubscriptionInput::take(&mut fields, &context.api.targets);
    fields.finish()?;
    Ok(input)
}

/// Writes the definition that `new_definition` computes from the current subscription, and responds with the result.
async fn change_definition(
    context: &Context,
    id: &str,
    new_definition: impl Fn(&Subscription) -> Result<Definition, Problem>,
) -> Result<HttpResponse, Problem> {
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
