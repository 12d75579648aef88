//! `GET /v1/subscriptions/{id}/replays`.

use actix_web::{HttpResponse, web};
use serde_json::Value;

use super::view::view;
use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::http::list::Page;
use crate::api::problem::Problem;
use crate::api::subscriptions::find::find_subscription;
use crate::domain::id::ReplayId;

/// `GET /v1/subscriptions/{id}/replays`: lists the replays of a subscription, newest first.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let below = query.parsed::<ReplayId>("after")?;
    let subscription = find_subscription(&context, &id).await?;
    let store = &context.api.store;
    let found = store.select_replays(subscription.id, below, i64::from(limit) + 1).await?;
    let page = Page::new(found, limit, |(id, _)| id.to_string());
    let data: Vec<Value> =
        page.items.iter().map(|(id, progress)| view(Some(*id), progress)).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}
