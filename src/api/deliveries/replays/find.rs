//! `GET /v1/subscriptions/{id}/replays/{replay}`, and finding a replay for a caller.

use actix_web::{HttpResponse, web};

use super::view::view;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::NoQuery;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::api::subscriptions::find::find_subscription;
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::id::ReplayId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::command::Command;

/// A replay with its subscription.
pub(super) struct FoundReplay {
    pub(super) subscription: Subscription,
    pub(super) id: ReplayId,
    pub(super) progress: ReplayProgress,
}

/// `GET /v1/subscriptions/{id}/replays/{replay}`: returns a replay with its progress.
pub(super) async fn get(
    Authorized(context, NoQuery): Authorized,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (subscription, id) = path.into_inner();
    let found = find_replay(&context, &subscription, &id).await?;
    Ok(HttpResponse::Ok().json(view(Some(found.id), &found.progress)))
}

/// Finds a replay by the texts of its ids in the path. 404 if either does not exist or the key may not see the
/// subscription.
pub(super) async fn find_replay(
    context: &Context,
    subscription: &str,
    id: &str,
) -> Result<FoundReplay, Problem> {
    let subscription = find_subscription(context, subscription).await?;
    let id = id.parse().map_err(|_bad| Problem::not_found("replay"))?;
    let progress = progress(&context.api, &subscription, id).await?;
    Ok(FoundReplay { subscription, id, progress })
}

/// Reads the progress of a replay, or its request in the log if no node has started the replay yet. 404 if neither
/// exists.
async fn progress(
    api: &Api,
    subscription: &Subscription,
    id: ReplayId,
) -> Result<ReplayProgress, Problem> {
    if let Some(progress) = api.store.select_replay(subscription.id, id).await? {
        return Ok(progress);
    }
    let entries = api.store.read_at(&[id.stored()], Some(&subscription.tenant)).await?;
    let entry = entries.first().filter(|entry| entry.about == Some(subscription.id));
    match entry.and_then(|entry| Command::from_event(entry)) {
        Some(Command::Replay(_, request)) => Ok(ReplayProgress::new(&request)),
        _ => Err(Problem::not_found("replay")),
    }
}
