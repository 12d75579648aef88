//! Deleting subscriptions: by path, or by a body with an id or a callback URL.

use actix_web::{HttpResponse, web};
use serde_json::Value;

use super::change::apply_change;
use super::receiver_input::take_callback_value;
use crate::api::auth::context::{Authorized, Context};
use crate::api::auth::visibility::invisible;
use crate::api::http::input::JsonBody;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::domain::subscription::change;
use crate::store::subscriptions::SubscriptionFilter;

/// `DELETE /v1/subscriptions/{id}`: 204, also when repeated.
pub(super) async fn delete(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    delete_one(&context, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /v1/subscriptions`: by the `id` in the body, or by `callback_url`, which deletes every subscription with that
/// URL. 204.
pub(super) async fn delete_by_body(Authorized(context, body): Authorized<JsonBody>) -> ApiResult {
    let mut fields = body.fields()?;
    let id = fields.text("id", 64).value();
    let url = take_callback_value(&mut fields).map(|field| field.value);
    fields.finish()?;
    match (id, url) {
        (Some(id), None) => delete_one(&context, &id).await?,
        (None, Some(Value::String(callback_url))) if !callback_url.contains('\0') => {
            delete_by_url(&context, callback_url).await?;
        }
        _ => {
            let detail = "expected either id or callback_url, as a string";
            return Err(Problem::invalid_field("", detail));
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes every subscription of the tenant with this callback URL that the caller may see. Succeeds if there is none.
async fn delete_by_url(context: &Context, callback_url: String) -> ApiResult<()> {
    let Context { api, caller, .. } = context;
    let filter =
        SubscriptionFilter { callback_url: Some(callback_url), ..SubscriptionFilter::default() };
    let found = api.store.select_subscriptions(&caller.tenant, &filter, 0, i64::MAX).await?;
    let invisible = invisible(api, caller, found.iter().map(|found| found.id)).await?;
    for subscription in found.into_iter().filter(|found| !invisible.contains(&found.id)) {
        delete_one(context, &subscription.id.to_string()).await?;
    }
    Ok(())
}

/// Deletes the subscription with this id. Succeeds if it is already deleted; 404 if it never existed.
async fn delete_one(context: &Context, id: &str) -> ApiResult<()> {
    let deleted = apply_change(context, id, |current| Ok(Some(change::deleted(current)))).await;
    let Err(problem) = deleted else { return Ok(()) };
    let (store, tenant) = (&context.api.store, &context.caller.tenant);
    match id.parse() {
        Ok(id)
            if problem.code() == Code::NotFound
                && store.is_subscription_deleted(tenant, id).await? =>
        {
            Ok(())
        }
        _ => Err(problem),
    }
}
