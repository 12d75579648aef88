//! `POST /v1/subscriptions/{id}/replays/{replay}/cancel`.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::find::{FoundReplay, find_replay};
use super::view::view;
use crate::api::auth::context::Authorized;
use crate::api::events::append::{append, event_about};
use crate::api::http::input::NoQuery;
use crate::api::problem::Problem;
use crate::domain::delivery::replay::{ReplayCancellation, ReplayProgress, ReplayState};

/// `POST /v1/subscriptions/{id}/replays/{replay}/cancel`: stops a replay.
///
/// Deliveries that the replay has already queued are still attempted. A replay that has ended stays as it is.
pub(super) async fn cancel(
    Authorized(context, NoQuery): Authorized,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (subscription, id) = path.into_inner();
    let FoundReplay { subscription, id, progress } =
        find_replay(&context, &subscription, &id).await?;
    if progress.state != ReplayState::Running {
        return Ok(HttpResponse::Ok().json(view(Some(id), &progress)));
    }
    let data = json!(ReplayCancellation { replay: id });
    context.audit("replay.cancelled", &subscription.id, data.clone()).await?;
    let event = event_about(subscription.id, ReplayCancellation::entry_type(), &data);
    append(&context.api, &context.caller, None, vec![event]).await?;
    let cancelled = ReplayProgress { state: ReplayState::Cancelled, ..progress };
    Ok(HttpResponse::Accepted().json(view(Some(id), &cancelled)))
}
