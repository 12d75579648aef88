//! Pausing and resuming a subscription.

use actix_web::{HttpResponse, web};

use super::change::apply_change;
use crate::api::auth::context::Authorized;
use crate::api::http::input::NoQuery;
use crate::api::problem::Problem;
use crate::domain::subscription::Status;
use crate::domain::subscription::change;
use crate::domain::subscription::view::SubscriptionView;

/// `POST /v1/subscriptions/{id}/pause`: pauses deliveries until the subscription is resumed.
pub(super) async fn pause(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let paused = apply_change(&context, &id, |current| {
        let can_pause = current.status.is_delivering() || current.status == Status::Unverified;
        Ok(can_pause.then(|| change::paused(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&paused.await?)))
}

/// `POST /v1/subscriptions/{id}/resume`: resumes a subscription that is paused or that the hub disabled.
///
/// A subscription whose receiver is not verified becomes `unverified` again.
pub(super) async fn resume(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let resumed = apply_change(&context, &id, |current| {
        let is_resumed = current.status == current.definition.running_status();
        Ok((!is_resumed).then(|| change::resumed(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&resumed.await?)))
}
