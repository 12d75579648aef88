//! `POST /v1/subscriptions/{id}/replay`.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use serde_json::json;

use super::count::{ReplayRange, count};
use super::view::view;
use crate::api::auth::context::{Authorized, Context};
use crate::api::auth::visibility::require_visible;
use crate::api::events::append::{append, event_about};
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::input::JsonBody;
use crate::api::problem::{Code, Problem};
use crate::api::subscriptions::find::find_subscription;
use crate::api::subscriptions::repeat::missing_entry;
use crate::api::subscriptions::start::before_point;
use crate::domain::delivery::replay::{ReplayFilter, ReplayProgress, ReplayRequest};
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::command::Command;
use crate::store::idempotency::StoredResponse;
use crate::streaming::resume::ResumePoint;

/// The body of a request for a replay.
struct ReplayInput {
    range: ReplayRange,
    only: ReplayFilter,
    dry_run: bool,
}

impl ReplayInput {
    /// Parses the body. `head` is the newest position, which bounds the range. 422 for invalid fields.
    fn parse(body: &JsonBody, head: Position) -> Result<Self, Problem> {
        let mut fields = body.fields()?;
        let after = since(&mut fields, head);
        let until = until(&mut fields, head);
        let only = only(&mut fields);
        let dry_run = fields.flag("dry_run").value().unwrap_or_default();
        fields.finish()?;
        let after = after.ok_or_else(|| {
            let detail = "is missing; expected earliest, an event id, or an RFC 3339 time";
            Problem::invalid_field("/since", detail)
        })?;
        Ok(Self { range: ReplayRange { after, until }, only, dry_run })
    }
}

/// `POST /v1/subscriptions/{id}/replay`: starts a replay of earlier deliveries. A dry run only counts them.
pub(super) async fn create(
    Authorized(context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let claim = idempotency::claim(&context, &body.0).await?;
    if let Some(StoredResponse { position: Some(position), .. }) =
        idempotency::first(&context, claim.as_ref()).await?
    {
        return replay_response(&context, position).await;
    }
    let ReplayInput { range, only, dry_run } = ReplayInput::parse(&body, context.api.log.head())?;
    let subscription = find_subscription(&context, &id).await?;
    match subscription.definition.channel {
        Channel::Webhook(_) => {}
        Channel::Pull { .. } => {
            let detail = "the subscription has no callback_url; move its cursor back with POST …/seek instead";
            return Err(Problem::new(Code::Conflict, detail));
        }
    }
    let counted = count(&context.api, &subscription, range, only).await?;
    let ReplayRange { after, until } = range;
    let id = subscription.id;
    let request = ReplayRequest {
        subscription: id.to_string(),
        after,
        until,
        only,
        count: counted.deliveries,
    };
    if dry_run {
        return Ok(dry_run_response(&request, counted.is_complete));
    }
    context.audit("replay.requested", &id, json!(request)).await?;
    let event = event_about(id, ReplayRequest::entry_type(), &json!(request));
    let mut appended = append(&context.api, &context.caller, claim, vec![event]).await?;
    Ok(created(&mut appended.response, appended.first, id, &request))
}

/// Builds the response to a dry run. `is_complete`: whether the count covers the whole range.
fn dry_run_response(request: &ReplayRequest, is_complete: bool) -> HttpResponse {
    let mut view = view(None, &ReplayProgress::new(request));
    if let Some(members) = view.as_object_mut() {
        members.insert("dry_run".into(), json!(true));
        members.insert("count_complete".into(), json!(is_complete));
        members.retain(|name, _| {
            !matches!(name.as_str(), "id" | "status" | "replayed" | "created_at")
        });
    }
    HttpResponse::Ok().json(view)
}

/// Builds the response to a repeat of the request. `position`: the log entry of the first request.
async fn replay_response(context: &Context, position: Position) -> Result<HttpResponse, Problem> {
    let Context { api, caller, .. } = context;
    let entries = api.store.read_at(&[position.stored()], Some(&caller.tenant)).await?;
    let request = entries.first().map(|entry| (entry.about, Command::from_event(entry)));
    let Some((Some(id), Some(Command::Replay(_, request)))) = request else {
        return Err(missing_entry());
    };
    require_visible(api, caller, id).await?;
    let mut response = HttpResponse::Accepted();
    Ok(created(idempotency::replayed(&mut response), position, id, &request))
}

/// Builds the response for a new replay, which has made no progress yet. `position`: the replay's log entry.
fn created(
    response: &mut HttpResponseBuilder,
    position: Position,
    subscription: SubscriptionId,
    request: &ReplayRequest,
) -> HttpResponse {
    let id = ReplayId::from_stored(position.stored());
    let location = format!("/v1/subscriptions/{subscription}/replays/{id}");
    response.insert_header((LOCATION, location)).json(view(Some(id), &ReplayProgress::new(request)))
}

/// Takes the field `since`, and returns the position just before the first event of the replay.
///
/// `None` if the field is missing, or invalid and recorded as a fault. `head`: the newest position.
fn since(fields: &mut Fields, head: Position) -> Option<Position> {
    let point = ResumePoint::parse(&fields.text("since", 64).value()?);
    before_point(fields, "since", &point, head)
}

/// Takes the field `until`, and returns the position of the last event of the replay.
///
/// The field is an event, or a time that the replay does not reach. The default is `head`, the newest event.
fn until(fields: &mut Fields, head: Position) -> Position {
    let point = fields.text("until", 64).value().map(|text| ResumePoint::parse(&text));
    match point {
        None | Some(ResumePoint::Now) => head,
        Some(ResumePoint::After(event)) => event.min(head),
        Some(ResumePoint::Since(time)) => Position::before_time(time).min(head),
        Some(ResumePoint::Earliest | ResumePoint::Unreadable(_)) => {
            fields.fault("until", "expected now, an event id, or an RFC 3339 time");
            head
        }
    }
}

/// Takes the field `only`, which selects the deliveries to make again. The default is the undelivered ones.
fn only(fields: &mut Fields) -> ReplayFilter {
    let Some(name) = fields.text("only", 64).value() else { return ReplayFilter::Undelivered };
    ReplayFilter::from_name(&name).unwrap_or_else(|| {
        fields.fault("only", "expected undelivered or all");
        ReplayFilter::Undelivered
    })
}
