//! Finding, showing and listing subscriptions.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::verification::add_progress;
use crate::api::auth::context::{Authorized, Context};
use crate::api::auth::visibility::{invisible, require_visible};
use crate::api::http::input::Parameters;
use crate::api::http::query::{Page, invalid};
use crate::api::problem::{ApiResult, Problem};
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::subscription::{Status, Subscription};
use crate::store::expiry::Expiration;
use crate::store::subscriptions::SubscriptionFilter;

/// Finds a subscription of the caller's tenant. 404 if it does not exist or the caller may not see it.
pub(crate) async fn find_subscription(context: &Context, id: &str) -> ApiResult<Subscription> {
    let Context { api, caller, .. } = context;
    let no_such = || Problem::not_found("subscription");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_subscription(&caller.tenant, id).await?.ok_or_else(no_such)?;
    require_visible(api, caller, id).await?;
    Ok(found)
}

/// `GET /v1/subscriptions/{id}`: the subscription, with its pull cursor, its expired events and the progress of its
/// verification, if it has them.
pub(super) async fn get(Authorized(context, _): Authorized, id: web::Path<String>) -> ApiResult {
    let store = &context.api.store;
    let subscription = find_subscription(&context, &id).await?;
    let mut view = json!(SubscriptionView::of(&subscription));
    let cursor = store.select_pull_cursor(subscription.id).await?;
    let expired = store.select_expired(subscription.id).await?;
    if let Some(members) = view.as_object_mut() {
        if let Some(cursor) = cursor {
            members.insert("cursor".into(), json!(cursor.position.to_string()));
        }
        if let Some(Expiration { events, up_to }) = expired {
            let expired = json!({ "events": events, "up_to": up_to.to_string() });
            members.insert("expired".into(), expired);
        }
        add_progress(&context.api, &subscription, members).await?;
    }
    Ok(HttpResponse::Ok().json(view))
}

/// `GET /v1/subscriptions`: oldest first. Those that the caller may not see are left out, so a page may be short
/// although more follow.
pub(super) async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&["event_type", "status", "callback_url", "after", "limit"])?;
    let limit = query.limit()?;
    let status = query.text("status").map(|name| {
        name.parse::<Status>().map_err(|_unknown| {
            invalid("status", "expected active, failing, paused, disabled or unverified")
        })
    });
    let filter = SubscriptionFilter {
        event_type: query.text("event_type").map(str::to_owned),
        status: status.transpose()?,
        callback_url: query.text("callback_url").map(str::to_owned),
    };
    let after = query.parsed::<SubscriptionId>("after")?.map_or(0, SubscriptionId::stored);
    let (api, caller) = (&context.api, &context.caller);
    let found = api
        .store
        .select_subscriptions(&caller.tenant, &filter, after, i64::from(limit) + 1)
        .await?;
    let page = Page::new(found, limit, |last| last.id.to_string());
    let invisible = invisible(api, caller, page.items.iter().map(|found| found.id)).await?;
    let visible = page.items.iter().filter(|found| !invisible.contains(&found.id));
    let data: Vec<Value> = visible.map(|found| json!(SubscriptionView::of(found))).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}
