//! The cursor of a pull subscription: acknowledging events, and moving the cursor to any point.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::read::find_subscription;
use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::JsonBody;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;
use crate::domain::time::UnixMillis;
use crate::streaming::resume::{GapReason, ResumePoint, Resumption};

/// Finds a pull subscription. 404 if it does not exist or the caller may not see it. 409 if it has a callback URL, or is
/// paused or disabled.
pub(super) async fn find_pull_subscription(context: &Context, id: &str) -> ApiResult<Subscription> {
    let subscription = find_subscription(context, id).await?;
    match subscription.definition.channel {
        Channel::Pull { .. } => {}
        Channel::Webhook(_) => return Err(not_a_pull_subscription()),
    }
    if !subscription.is_pulled() {
        let status = subscription.status.name();
        let detail =
            format!("the subscription is {status}; POST /v1/subscriptions/{id}/resume first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    Ok(subscription)
}

pub(super) fn not_a_pull_subscription() -> Problem {
    Problem::new(
        Code::Conflict,
        "the subscription has a callback_url; PATCH it with {\"callback_url\": null} to pull its events",
    )
}

/// `POST /v1/subscriptions/{id}/ack`: moves the cursor forward to `cursor`, never back. 422 for an event id after the
/// newest.
pub(super) async fn acknowledge(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let mut fields = body.fields()?;
    let cursor = fields.parsed::<Position>("cursor").value();
    fields.finish()?;
    let subscription = find_pull_subscription(&context, &id).await?;
    let position = cursor.ok_or_else(|| {
        let detail =
            "is missing; expected the id of the last event you have processed, or a next_cursor";
        Problem::invalid_field("/cursor", detail)
    })?;
    let cursor = acknowledge_up_to(&context.api, subscription.id, position).await?;
    Ok(HttpResponse::Ok().json(json!({ "cursor": cursor.to_string() })))
}

/// Moves the subscription's cursor forward, never back, and returns where it then is. 422 for a position after the newest
/// event, 409 if `id` is not a pull subscription.
pub(crate) async fn acknowledge_up_to(
    api: &Api,
    id: SubscriptionId,
    position: Position,
) -> ApiResult<Position> {
    // The database knows the head of the log better than this node, which may lag.
    if position > api.log.head() && position > api.store.head().await? {
        return Err(beyond_the_log());
    }
    api.store.advance_pull_cursor(id, position).await?.ok_or_else(not_a_pull_subscription)
}

/// `POST /v1/subscriptions/{id}/seek`: moves the cursor forward or back. 410 if events after an event id have expired, 422
/// for an event id after the newest.
pub(super) async fn seek(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let mut fields = body.fields()?;
    let cursor = fields.text("cursor", 64).value();
    let time = fields.text("time", 64).value();
    fields.finish()?;
    let subscription = find_pull_subscription(&context, &id).await?;
    let point = seek_point(cursor.as_deref(), time.as_deref())?;
    let position = match context.api.streams.resolve(&point).await? {
        Resumption::At(position) => position,
        Resumption::Gone { reason: GapReason::Expired, earliest } => {
            return Err(Problem::cursor_expired(earliest));
        }
        Resumption::Gone { .. } => return Err(beyond_the_log()),
    };
    let response = json!({ "cursor": position.to_string() });
    context.audit("subscription.sought", &subscription.id, response.clone()).await?;
    if !context.api.store.seek_pull_cursor(subscription.id, position).await? {
        return Err(not_a_pull_subscription());
    }
    Ok(HttpResponse::Ok().json(response))
}

/// Parses the new place of the cursor: either `cursor` (an event id, `now` or `earliest`) or `time` (RFC 3339). 422 for any
/// other value.
fn seek_point(cursor: Option<&str>, time: Option<&str>) -> ApiResult<ResumePoint> {
    match (cursor.map(ResumePoint::parse), time.map(UnixMillis::parse)) {
        (
            Some(point @ (ResumePoint::Now | ResumePoint::Earliest | ResumePoint::After(_))),
            None,
        ) => Ok(point),
        (None, Some(Some(time))) => Ok(ResumePoint::Since(time)),
        (Some(_), None) => {
            Err(Problem::invalid_field("/cursor", "expected an event id, now or earliest"))
        }
        (None, Some(None)) => Err(Problem::invalid_field("/time", "expected an RFC 3339 time")),
        _ => Err(Problem::invalid_field("", "expected either cursor or time")),
    }
}

fn beyond_the_log() -> Problem {
    Problem::invalid_field("/cursor", "this event id is newer than the newest event")
}
