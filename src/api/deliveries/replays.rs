//! Replays: delivering part of the log to a subscription again.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use serde_json::{Value, json};

use super::replay_count::{ReplayRange, count};
use crate::api::auth::context::{Authorized, Context};
use crate::api::auth::visibility::require_visible;
use crate::api::events::publish::{append, event_about};
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::input::{JsonBody, Parameters};
use crate::api::http::query::Page;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::route::{self, Route, SUBSCRIBE};
use crate::api::state::Api;
use crate::api::subscriptions::read::find_subscription;
use crate::api::subscriptions::repeat::missing_entry;
use crate::api::subscriptions::start::before_point;
use crate::domain::delivery::replay::{
    ReplayCancellation, ReplayFilter, ReplayProgress, ReplayRequest, ReplayState,
};
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::command::Command;
use crate::store::idempotency::StoredResponse;
use crate::streaming::resume::ResumePoint;

pub(super) fn routes() -> Vec<Route> {
    let one = "/v1/subscriptions/{id}/replays/{replay}";
    vec![
        route::post("/v1/subscriptions/{id}/replay", SUBSCRIBE, route::to_completion(create)),
        route::get("/v1/subscriptions/{id}/replays", SUBSCRIBE, web::to(list)),
        route::get(one, SUBSCRIBE, web::to(get)),
        route::post(
            "/v1/subscriptions/{id}/replays/{replay}/cancel",
            SUBSCRIBE,
            route::to_completion(cancel),
        ),
    ]
}

struct ReplayInput {
    range: ReplayRange,
    only: ReplayFilter,
    dry_run: bool,
}

impl ReplayInput {
    /// 422 for invalid fields, or without `since`. `head`: the newest position, beyond which no range goes.
    fn parse(body: &JsonBody, head: Position) -> ApiResult<Self> {
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

/// `POST /v1/subscriptions/{id}/replay`: appends the request for a replay to the log. 202. A dry run only counts the
/// deliveries: 200. 409 for a pull subscription.
async fn create(
    Authorized(mut context, body): Authorized<JsonBody>,
    id: web::Path<String>,
) -> ApiResult {
    let claim = idempotency::claim(&context, &body.0).await?;
    if let Some(StoredResponse { position: Some(position), .. }) =
        idempotency::first_response(&context, claim.as_ref()).await?
    {
        return respond_to_repeat(&context, position).await;
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
    if dry_run {
        // A revocation of the key need not wait for the count, which changes nothing.
        drop(context.operation.take());
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

/// The response to a repeat with the same idempotency key. `position`: the log entry of the first request.
async fn respond_to_repeat(context: &Context, position: Position) -> ApiResult {
    let Context { api, caller, .. } = context;
    let entries = api.store.read_at(&[position.stored()], Some(&caller.tenant)).await?;
    let request = entries.first().map(|entry| (entry.about, Command::from_event(entry)));
    let Some((Some(id), Some(Command::Replay(_, request)))) = request else {
        return Err(missing_entry());
    };
    require_visible(api, caller, id).await?;
    let mut response = HttpResponse::Accepted();
    Ok(created(idempotency::mark_replayed(&mut response), position, id, &request))
}

/// Adds `Location` and the JSON of a new replay. `position`: its log entry, which is also its id.
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

/// Takes the field `since`: the position just before the first event. `None` if missing, or recorded as an error.
fn since(fields: &mut Fields, head: Position) -> Option<Position> {
    let point = ResumePoint::parse(&fields.text("since", 64).value()?);
    before_point(fields, "since", &point, head)
}

/// Takes the field `until`: the position of the last event, at most `head`. An event id is included; a time is
/// excluded. An invalid value is recorded as an error.
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

/// Takes the field `only`, by default the deliveries that are not delivered. An invalid value is recorded as an error.
fn only(fields: &mut Fields) -> ReplayFilter {
    let Some(name) = fields.text("only", 64).value() else { return ReplayFilter::Undelivered };
    name.parse().unwrap_or_else(|_unknown| {
        fields.fault("only", "expected undelivered or all");
        ReplayFilter::Undelivered
    })
}

/// `POST /v1/subscriptions/{id}/replays/{replay}/cancel`: 202. Deliveries already queued are still attempted. A replay
/// that has ended stays as it is: 200.
async fn cancel(
    Authorized(context, _): Authorized,
    path: web::Path<(String, String)>,
) -> ApiResult {
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

struct FoundReplay {
    subscription: Subscription,
    id: ReplayId,
    progress: ReplayProgress,
}

/// `GET /v1/subscriptions/{id}/replays/{replay}`: a replay with its progress.
async fn get(Authorized(context, _): Authorized, path: web::Path<(String, String)>) -> ApiResult {
    let (subscription, id) = path.into_inner();
    let found = find_replay(&context, &subscription, &id).await?;
    Ok(HttpResponse::Ok().json(view(Some(found.id), &found.progress)))
}

/// Finds a replay by the texts of both ids. 404 if it does not exist, or the caller may not see the subscription.
async fn find_replay(context: &Context, subscription: &str, id: &str) -> ApiResult<FoundReplay> {
    let subscription = find_subscription(context, subscription).await?;
    let id = id.parse().map_err(|_bad| Problem::not_found("replay"))?;
    let progress = progress(&context.api, &subscription, id).await?;
    Ok(FoundReplay { subscription, id, progress })
}

/// Reads the progress of a replay. If no node has started it yet, builds the progress from the request in the log. 404 if
/// neither exists.
async fn progress(
    api: &Api,
    subscription: &Subscription,
    id: ReplayId,
) -> ApiResult<ReplayProgress> {
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

/// `GET /v1/subscriptions/{id}/replays`: newest first. A replay is listed once a node has started it.
async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
    id: web::Path<String>,
) -> ApiResult {
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

/// Returns the JSON of a replay. `id`: `None` for a dry run.
fn view(id: Option<ReplayId>, progress: &ReplayProgress) -> Value {
    json!({
        "id": id.map(|id| id.to_string()),
        "status": progress.state.name(),
        "only": progress.only.name(),
        "after": progress.after.to_string(),
        "until": progress.until.to_string(),
        "count": progress.count,
        "replayed": progress.replayed,
        "cursor": progress.position.to_string(),
        "created_at": id.map(ReplayId::time),
    })
}
