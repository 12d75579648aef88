//! Pull subscriptions: their events by poll, stream and WebSocket, and the cursor that the hub keeps for them.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::api::auth::caller::Caller;
use crate::api::auth::reader::Reading;
use crate::api::events::poll;
use crate::api::http::body;
use crate::api::http::fields::Fields;
use crate::api::http::query::Query;
use crate::api::operator::audit;
use crate::api::problem::{Code, FieldError, Problem};
use crate::api::state::Api;
use crate::api::state::worker;
use crate::api::streams::sse::{last_event_id, named, server_sent_events};
use crate::api::streams::websocket;
use crate::api::streams::websocket_command::Desk;
use crate::api::subscriptions;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;
use crate::domain::time::UnixMillis;
use crate::streaming::presence::Transport;
use crate::streaming::resume::{Found, Point, Reason};
use crate::streaming::{Reader, Start};

/// `GET /v1/subscriptions/{id}/events`: what was not acked yet, at once or as soon as there is something.
pub(crate) async fn events(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["limit", "wait"])?;
    let (limit, wait) = (usize::from(query.limit()?), poll::wait(&query)?);
    let start = start(&api, &caller, &path, None).await?;
    let reader = Reader::new(&worker(&request)?, start, Transport::LongPoll);
    poll::answer(reader, &query, limit, wait.map(|wait| (wait, caller.owner(&request)))).await
}

/// `GET /v1/subscriptions/{id}/stream`.
pub(crate) async fn stream(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["last_event_id", "named"])?;
    let named = named(&query)?;
    let seen = last_event_id(&request, &query)?;
    let start = start(&api, &caller, &path, seen).await?;
    let reader = Reader::new(&worker(&request)?, start, Transport::Sse);
    Ok(server_sent_events(&request, reader.connect(Transport::Sse, caller.owner(&request))?, named))
}

/// `GET /v1/subscriptions/{id}/ws`.
pub(crate) async fn ws(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["last_event_id"])?;
    let seen = last_event_id(&request, &query)?;
    let start = start(&api, &caller, &path, seen).await?;
    let answer = websocket::handshake(&request)?;
    let subscription = start.filter.subscription();
    let reader = Reader::new(&worker(&request)?, start, Transport::WebSocket);
    let reader = reader.connect(Transport::WebSocket, caller.owner(&request))?;
    websocket::open(
        answer,
        payload,
        reader,
        Desk { reading: Reading::with_key(caller), subscription, api },
    )
}

/// `POST /v1/subscriptions/{id}/ack`: moves the cursor on, never back.
pub(crate) async fn ack(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let mut fields = Fields::of(&body)?;
    let given = fields.parsed::<Position>("cursor").value();
    fields.finish()?;
    let subscription = find_pulled(&api, &caller, &path).await?;
    let position = given.ok_or_else(|| {
        missing(
            "/cursor",
            "is missing; expected the id of the last event you have dealt with, or a next_cursor",
        )
    })?;
    let moved = move_on(&api, subscription.id, position).await?;
    Ok(HttpResponse::Ok().json(json!({ "cursor": moved.to_string() })))
}

/// Acks up to `position`; where the cursor stands then.
pub(crate) async fn move_on(
    api: &Api,
    id: SubscriptionId,
    position: Position,
) -> Result<Position, Problem> {
    must_exist(api, position).await?;
    api.store.ack(id, position).await?.ok_or_else(not_pulled)
}

/// `POST /v1/subscriptions/{id}/seek`: moves the cursor anywhere.
pub(crate) async fn seek(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let mut fields = Fields::of(&body)?;
    let cursor = fields.text("cursor", 64).value();
    let time = fields.text("time", 64).value();
    fields.finish()?;
    let subscription = find_pulled(&api, &caller, &path).await?;
    let point = match (cursor.as_deref().map(Point::read), time.as_deref().map(UnixMillis::parse)) {
        (Some(point @ (Point::Now | Point::Earliest | Point::After(_))), None) => point,
        (None, Some(Some(time))) => Point::Since(time),
        (Some(_), None) => return Err(missing("/cursor", "expected an event id, now or earliest")),
        (None, Some(None)) => return Err(missing("/time", "expected an RFC 3339 time")),
        _ => return Err(missing("", "expected either cursor or time")),
    };
    let position = match api.streams.find(&point).await? {
        Found::At(position) => position,
        Found::Gone { reason: Reason::Expired, earliest } => {
            return Err(Problem::cursor_expired(earliest));
        }
        Found::Gone { .. } => return Err(beyond()),
    };
    let answer = json!({ "cursor": position.to_string() });
    let by = (&caller, &request);
    audit::note(&api, by, "subscription.sought", &subscription.id, answer.clone()).await?;
    if !api.store.seek(subscription.id, position).await? {
        return Err(not_pulled());
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// Where a reader of the subscription begins: at its cursor, or where the same client was cut off, if that is further.
async fn start(
    api: &Api,
    caller: &Caller,
    id: &str,
    seen: Option<Position>,
) -> Result<Start, Problem> {
    let subscription = find_pulled(api, caller, id).await?;
    let id = subscription.id;
    let cursor = api.store.pull_cursor(id).await?.ok_or_else(not_pulled)?;
    let within = caller.key.event_types.clone();
    let filter = api.streams.filter_of_subscription(&caller.tenant, id, within).await?;
    let filter = filter.ok_or_else(not_pulled)?;
    // An id that this log does not have was not handed out by this subscription.
    let seen = seen.filter(|seen| *seen <= api.log.head());
    let after = cursor.position.max(seen.unwrap_or_default());
    Ok(Start { filter, after, gap: None })
}

async fn find_pulled(api: &Api, caller: &Caller, id: &str) -> Result<Subscription, Problem> {
    let subscription = subscriptions::find(api, caller, id).await?;
    match subscription.definition.channel {
        Channel::Pull { .. } => {}
        Channel::Webhook(_) => return Err(not_pulled()),
    }
    if !subscription.is_pulled() {
        let status = subscription.status.name();
        let detail =
            format!("the subscription is {status}; POST /v1/subscriptions/{id}/resume first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    Ok(subscription)
}

fn not_pulled() -> Problem {
    Problem::new(
        Code::Conflict,
        "the subscription is delivered to its callback_url; take that away (PATCH {\"callback_url\": null}) to pull",
    )
}

async fn must_exist(api: &Api, position: Position) -> Result<(), Problem> {
    if position > api.log.head() && position > api.store.head().await? {
        return Err(beyond());
    }
    Ok(())
}

fn beyond() -> Problem {
    missing("/cursor", "this event id is above all events of the log")
}

fn missing(pointer: &str, detail: &str) -> Problem {
    Problem::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }])
}
