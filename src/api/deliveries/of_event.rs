//! `GET /v1/events/{id}/deliveries`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::view::{DeliveryView, History};
use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::{is_visible, versions_by_subscription};
use crate::api::events::find::find_event;
use crate::api::http::input::Parameters;
use crate::api::http::list::Page;
use crate::api::problem::Problem;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::version::matches_event;

/// `GET /v1/events/{id}/deliveries`: lists the event's deliveries, one for each subscription that the event matches.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.parsed::<SubscriptionId>("after")?;
    let event = find_event(&context, &id).await?;
    let (store, caller) = (&context.api.store, &context.caller);
    let mut subscriptions = store.select_webhook_history(&caller.tenant).await?;
    subscriptions.retain(|(id, deleted)| {
        after < Some(*id) && deleted.is_none_or(|deleted| deleted > event.position)
    });
    let ids: Vec<i64> = subscriptions.iter().map(|(id, _)| id.stored()).collect();
    let versions = versions_by_subscription(store, &ids).await?;
    subscriptions.retain(|(id, _)| {
        let versions = versions.get(id).map_or(&[][..], Vec::as_slice);
        matches_event(&event, *id, &caller.tenant, versions) && is_visible(caller, Some(versions))
    });
    let page = Page::new(subscriptions, limit, |(id, _)| id.to_string());
    let ids: Vec<i64> = page.items.iter().map(|(id, _)| id.stored()).collect();
    let history = History::read(store, &ids, &[event.position.stored()]).await?;
    let view = |(id, deleted): &(SubscriptionId, Option<_>)| {
        json!(DeliveryView::new(*id, &event, &history, deleted.is_some()))
    };
    let data: Vec<Value> = page.items.iter().map(view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}
