//! `GET /v1/subscriptions/{id}`.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::find::find_subscription;
use super::verification::add_progress;
use crate::api::auth::context::Authorized;
use crate::api::http::input::NoQuery;
use crate::api::problem::Problem;
use crate::domain::subscription::view::SubscriptionView;
use crate::store::expiry::Expiration;

/// `GET /v1/subscriptions/{id}`: returns a subscription with its pull cursor, its expired events and the progress of
/// its verification.
pub(super) async fn get(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
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
