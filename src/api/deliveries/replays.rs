//! Replays: what was, once more.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::{Value, json};

use super::entry;
use crate::api::auth::caller::Caller;
use crate::api::auth::visibility;
use crate::api::events::append::append;
use crate::api::http::body;
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::query::Query;
use crate::api::operator::audit;
use crate::api::problem::{Code, FieldError, Problem};
use crate::api::state::Api;
use crate::api::subscriptions;
use crate::domain::delivery::replay::{Progress, ReplayState};
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::command::{Only, ReplayCancelled, ReplayRequest, Request};
use crate::domain::subscription::version::matches_event;
use crate::store::idempotency::Kept;
use crate::streaming::resume::Point;

/// How much of the log is looked at to count what will be replayed: events and bytes of a page, and pages.
const PAGE_LIMIT: PageLimit = PageLimit { events: 5_000, bytes: 8 << 20 };
const MOST_PAGES: usize = 400;

/// `POST /v1/subscriptions/{id}/replay`.
pub(crate) async fn create(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let claim = idempotency::claim(&api, &caller, &request, &body).await?;
    if let Some(Kept { position: Some(position), .. }) =
        idempotency::first(&api, &caller, claim.as_ref()).await?
    {
        return replay_answer(&api, &caller, position).await;
    }
    let mut fields = Fields::of(&body)?;
    let head = api.log.head();
    let after = first(&mut fields, head);
    let until = last(&mut fields, head);
    let only = only(&mut fields);
    let dry_run = fields.flag("dry_run").value().unwrap_or_default();
    fields.finish()?;
    let after = after.ok_or_else(|| {
        let detail = "is missing; expected earliest, an event id, or an RFC 3339 time".to_owned();
        Problem::invalid(vec![FieldError { pointer: "/since".to_owned(), detail }])
    })?;
    let subscription = subscriptions::find(&api, &caller, &path).await?;
    match subscription.definition.channel {
        Channel::Webhook(_) => {}
        Channel::Pull { .. } => {
            let detail = "the subscription is pulled from: POST …/seek moves its cursor back";
            return Err(Problem::new(Code::Conflict, detail));
        }
    }
    let (count, complete) = count(&api, &subscription, (after, until), only).await?;
    let asked =
        ReplayRequest { subscription: subscription.id.to_string(), after, until, only, count };
    if dry_run {
        let mut view = view(None, &Progress::new(&asked));
        if let Some(members) = view.as_object_mut() {
            members.insert("dry_run".into(), json!(true));
            members.insert("count_complete".into(), json!(complete));
            members.retain(|name, _| {
                !matches!(name.as_str(), "id" | "status" | "replayed" | "created_at")
            });
        }
        return Ok(HttpResponse::Ok().json(view));
    }
    let by = (&caller, &request);
    audit::note(&api, by, "replay.requested", &subscription.id, json!(asked)).await?;
    let entry = entry(subscription.id, ReplayRequest::entry_type(), &json!(asked));
    let (position, mut response) = append(&api, &caller, claim, entry).await?;
    Ok(requested(&mut response, position, subscription.id, &asked))
}

/// The answer to a repeat: what the log entry of the first request says.
async fn replay_answer(
    api: &Api,
    caller: &Caller,
    position: Position,
) -> Result<HttpResponse, Problem> {
    let entries = api.store.events_at(&[position.stored()], Some(&caller.tenant)).await?;
    let asked = entries.first().map(|entry| (entry.about, Request::of(entry)));
    let Some((Some(id), Some(Request::Replay(_, asked)))) = asked else {
        return Err(Problem::new(Code::Internal, "the entry of the first request is gone"));
    };
    visibility::must_be_there(api, caller, id).await?;
    let mut response = HttpResponse::Accepted();
    Ok(requested(idempotency::replayed(&mut response), position, id, &asked))
}

/// What is answered: the replay as it was asked for, however far it is by now.
fn requested(
    response: &mut HttpResponseBuilder,
    position: Position,
    subscription: SubscriptionId,
    asked: &ReplayRequest,
) -> HttpResponse {
    let id = ReplayId::from_stored(position.stored());
    let location = format!("/v1/subscriptions/{subscription}/replays/{id}");
    response.insert_header((LOCATION, location)).json(view(Some(id), &Progress::new(asked)))
}

/// `since`: the place before the first event of it, that event or time included.
fn first(fields: &mut Fields, head: Position) -> Option<Position> {
    let point = Point::read(&fields.text("since", 64).value()?);
    subscriptions::before(fields, "since", &point, head)
}

/// `until`: the last event of it, that event included; a time is not. Without it all there is.
fn last(fields: &mut Fields, head: Position) -> Position {
    let point = fields.text("until", 64).value().map(|text| Point::read(&text));
    match point {
        None | Some(Point::Now) => head,
        Some(Point::After(event)) => event.min(head),
        Some(Point::Since(time)) => Position::before_time(time).min(head),
        Some(Point::Earliest | Point::Unreadable(_)) => {
            fields.fault("until", "expected now, an event id, or an RFC 3339 time");
            head
        }
    }
}

fn only(fields: &mut Fields) -> Only {
    let Some(name) = fields.text("only", 64).value() else { return Only::Undelivered };
    Only::from_name(&name).unwrap_or_else(|| {
        fields.fault("only", "expected undelivered or all");
        Only::Undelivered
    })
}

/// How many deliveries a replay will make, and whether all of it was looked at.
async fn count(
    api: &Api,
    subscription: &Subscription,
    (mut after, until): (Position, Position),
    only: Only,
) -> Result<(u64, bool), Problem> {
    let id = subscription.id;
    let versions = api.store.versions_of(id).await?;
    let mut count = 0;
    for _ in 0..MOST_PAGES {
        let tenant = Some(&*subscription.tenant);
        let scan = Scan { after, up_to: until, tenant, limit: PAGE_LIMIT };
        let stretch = api.log.read_after(scan).await?;
        let matches =
            |event: &&Arc<Event>| matches_event(event, id, &subscription.tenant, &versions);
        let positions: Vec<i64> =
            stretch.events.iter().filter(matches).map(|event| event.position.stored()).collect();
        let tried = api.store.tried_among(id, &positions).await?;
        let waiting = tried.iter().filter(|tried| tried.is_waiting).count();
        count += match only {
            // What was not tried yet is delivered in any case.
            Only::All => tried.len() - waiting,
            Only::Undelivered => {
                tried.iter().filter(|tried| !tried.is_waiting && !tried.is_delivered).count()
            }
        };
        after = stretch.scanned;
        if stretch.complete {
            return Ok((u64::try_from(count).unwrap_or(u64::MAX), true));
        }
    }
    Ok((u64::try_from(count).unwrap_or(u64::MAX), false))
}

/// A replay of the subscription: how far it is, or that it is asked for and no node has begun it yet.
async fn find(api: &Api, subscription: &Subscription, id: ReplayId) -> Result<Progress, Problem> {
    if let Some(progress) = api.store.replay(subscription.id, id).await? {
        return Ok(progress);
    }
    let entries = api.store.events_at(&[id.stored()], Some(&subscription.tenant)).await?;
    let entry = entries.first().filter(|entry| entry.about == Some(subscription.id));
    match entry.and_then(|entry| Request::of(entry)) {
        Some(Request::Replay(_, asked)) => Ok(Progress::new(&asked)),
        _ => Err(Problem::not_found("replay")),
    }
}

/// `GET /v1/subscriptions/{id}/replays`: newest first.
pub(crate) async fn list(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "limit"])?;
    let limit = query.limit()?;
    let below = query.parsed::<ReplayId>("after")?;
    let subscription = subscriptions::find(&api, &caller, &path).await?;
    let found = api.store.list_replays(subscription.id, below, i64::from(limit) + 1).await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<_> = found.iter().take(limit.into()).collect();
    let next = page.last().filter(|_| has_more).map(|(id, _)| id.to_string());
    let data: Vec<Value> = page.iter().map(|(id, progress)| view(Some(*id), progress)).collect();
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `GET /v1/subscriptions/{id}/replays/{replay}`.
pub(crate) async fn get(
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let (_, id, progress) = at(&api, &caller, &path).await?;
    Ok(HttpResponse::Ok().json(view(Some(id), &progress)))
}

/// `POST /v1/subscriptions/{id}/replays/{replay}/cancel`: it goes no further; what waits for its try gets it.
pub(crate) async fn cancel(
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let (subscription, id, progress) = at(&api, &caller, &path).await?;
    if progress.state != ReplayState::Running {
        return Ok(HttpResponse::Ok().json(view(Some(id), &progress)));
    }
    let said = json!(ReplayCancelled { replay: id });
    let by = (&caller, &request);
    audit::note(&api, by, "replay.cancelled", &subscription.id, said.clone()).await?;
    let entry = entry(subscription.id, ReplayCancelled::entry_type(), &said);
    append(&api, &caller, None, entry).await?;
    let cancelled = Progress { state: ReplayState::Cancelled, ..progress };
    Ok(HttpResponse::Accepted().json(view(Some(id), &cancelled)))
}

async fn at(
    api: &Api,
    caller: &Caller,
    (subscription, id): &(String, String),
) -> Result<(Subscription, ReplayId, Progress), Problem> {
    let subscription = subscriptions::find(api, caller, subscription).await?;
    let id = id.parse().map_err(|_bad| Problem::not_found("replay"))?;
    let progress = find(api, &subscription, id).await?;
    Ok((subscription, id, progress))
}

fn view(id: Option<ReplayId>, progress: &Progress) -> Value {
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
