//! The REST Hooks resource: subscribe, look, change, pause, unsubscribe.

pub(super) mod input;
pub(super) mod pull;
pub(super) mod receiver_input;
pub(super) mod signing;
pub(super) mod verification;
pub(super) mod verification_answer;

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use self::input::{Given, callback_text};
use super::auth::caller::Caller;
use super::auth::visibility;
use super::http::body;
use super::http::fields::Fields;
use super::http::idempotency;
use super::http::query::{Query, invalid};
use super::operator::audit::actor;
use super::problem::{Code, FieldError, Problem};
use super::state::Api;
use crate::access::quotas::Quota;
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::signing::Signing;
use crate::domain::signing::secret::Secret;
use crate::domain::subscription::change;
use crate::domain::subscription::change::{Change, ChangeResult};
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::domain::time::UnixMillis;
use crate::store::expiry::Expiration;
use crate::store::subscriptions::SubscriptionFilter;
use crate::streaming::resume::ResumePoint;

/// How often a change is made anew because another one came between.
pub(crate) const CHANGE_TRIES: u32 = 5;
/// When one may ask again whose tenant has as many as it may have, in seconds: room is made by people.
const ROOM_AGAIN_S: u32 = 60;

/// `POST /v1/subscriptions`.
pub(crate) async fn create(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let claim = idempotency::claim(&api, &caller, &request, &body).await?;
    if let Some(first) = idempotency::first(&api, &caller, claim.as_ref()).await? {
        return replay(&api, &caller, first.position).await;
    }
    let mut fields = Fields::of(&body)?;
    let given = Given::take(&mut fields, &api.targets);
    let starts_after = starts_after(&mut fields, api.log.head());
    fields.finish()?;
    let definition = given.whole(Signing::new(Secret::from_random(rand::random())))?;
    verification::must_be_possible(&api, &definition, None)?;
    caller.must_cover(&definition.event_types)?;
    let subscription = Subscription {
        id: SubscriptionId::new(UnixMillis::now(), rand::random()),
        tenant: Arc::clone(&caller.tenant),
        status: definition.running_status(),
        definition,
        disabled_reason: None,
        changed_at: Position::START,
    };
    let key = claim.as_ref().map(|claim| claim.key.clone());
    let most = api.quotas.of(&caller.tenant).subscriptions;
    let change = change::created(subscription, most, starts_after, key);
    match api.log.change(&change, None, &actor(&caller.key.name, &request)).await? {
        ChangeResult::Applied { position, .. } => {
            let made = Subscription { changed_at: position, ..change.subscription };
            Ok(HttpResponse::Created()
                .insert_header((LOCATION, path_of(made.id)))
                .json(SubscriptionView::with_secret(&made)))
        }
        ChangeResult::Replayed { position, fingerprint } => {
            if let Some(claim) = &claim {
                claim.must_be_same(&fingerprint)?;
            }
            replay(&api, &caller, Some(position)).await
        }
        ChangeResult::Stale => {
            Err(Problem::new(Code::Conflict, "two subscriptions were given the same id; try again"))
        }
        ChangeResult::QuotaExceeded => Err(no_room(&api, &caller, most)),
    }
}

/// The tenant has as many as it may have.
fn no_room(api: &Api, caller: &Caller, most: u32) -> Problem {
    api.quotas.refuse(Quota::Subscriptions, &caller.tenant);
    let standing = RateLimitStatus { limit: most, remaining: 0, reset_s: ROOM_AGAIN_S };
    let detail = format!(
        "this tenant may have {most} subscriptions (its quota subscriptions), and has them; delete one that is not \
         needed any more, or ask the operator for more"
    );
    Problem::over_quota(Code::QuotaExceeded, standing, detail)
}

fn path_of(id: SubscriptionId) -> String {
    format!("/v1/subscriptions/{id}")
}

/// The answer to a repeat of the request that made a subscription.
async fn replay(
    api: &Api,
    caller: &Caller,
    position: Option<Position>,
) -> Result<HttpResponse, Problem> {
    let (id, view) = view_of_first(api, caller, position).await?;
    let mut response = HttpResponse::Created();
    if let Some(id) = id {
        response.insert_header((LOCATION, path_of(id)));
    }
    Ok(idempotency::replayed(&mut response).json(view))
}

/// The answer to a repeat: what the log entry of the first request says, with the secret if there still is one; and the
/// subscription's id.
pub(crate) async fn view_of_first(
    api: &Api,
    caller: &Caller,
    position: Option<Position>,
) -> Result<(Option<SubscriptionId>, Value), Problem> {
    let positions: Vec<i64> = position.iter().map(|position| position.stored()).collect();
    let entry = api.store.read_at(&positions, Some(&caller.tenant)).await?.into_iter().next();
    let (Some(entry), Some(position)) = (entry, position) else {
        return Err(Problem::new(Code::Internal, "the entry of the first request is gone"));
    };
    if let Some(id) = entry.about {
        visibility::must_be_there(api, caller, id).await?;
    }
    let mut view: Value = serde_json::from_slice(&entry.data()).unwrap_or_default();
    let mut view = view.get_mut("subscription").map(Value::take).unwrap_or_default();
    if let (Some(members), Some(id)) = (view.as_object_mut(), entry.about) {
        members.insert("updated_at".into(), json!(position.time().max(id.time())));
        if let Some(current) = api.store.select_subscription(&entry.tenant, id).await? {
            members.insert("secret".into(), json!(current.definition.signing().secret().reveal()));
        }
    }
    Ok((entry.about, view))
}

/// `from`: `now`, `earliest`, an event id, or a time; history is delivered from there on, that place included.
fn starts_after(fields: &mut Fields, head: Position) -> Option<Position> {
    match ResumePoint::parse(&fields.text("from", 64).value()?) {
        ResumePoint::Now => None,
        point => before(fields, "from", &point, head),
    }
}

/// The place just before the one that a field names, so that this is the first of what follows.
pub(crate) fn before(
    fields: &mut Fields,
    name: &'static str,
    point: &ResumePoint,
    head: Position,
) -> Option<Position> {
    match point {
        ResumePoint::Earliest => Some(Position::START),
        ResumePoint::After(event) if *event <= head => Some(event.previous()),
        ResumePoint::After(_) => {
            fields.fault(name, "this event id is above all events of the log");
            None
        }
        ResumePoint::Since(time) => Some(Position::before_time(*time)),
        ResumePoint::Now | ResumePoint::Unreadable(_) => {
            fields.fault(name, "expected earliest, an event id, or an RFC 3339 time");
            None
        }
    }
}

/// `GET /v1/subscriptions`.
pub(crate) async fn list(
    caller: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["event_type", "status", "callback_url", "after", "limit"])?;
    let limit = query.limit()?;
    let status = query.text("status").map(|name| {
        Status::from_name(name).ok_or_else(|| {
            invalid("status", "expected active, failing, paused, disabled or unverified")
        })
    });
    let filter = SubscriptionFilter {
        event_type: query.text("event_type").map(str::to_owned),
        status: status.transpose()?,
        callback_url: query.text("callback_url").map(str::to_owned),
    };
    let after = query.parsed::<SubscriptionId>("after")?.map_or(0, SubscriptionId::stored);
    let found = api
        .store
        .select_subscriptions(&caller.tenant, &filter, after, i64::from(limit) + 1)
        .await?;
    let has_more = found.len() > usize::from(limit);
    let page: Vec<&Subscription> = found.iter().take(limit.into()).collect();
    let hidden = visibility::hidden(&api, &caller, page.iter().map(|found| found.id)).await?;
    let shown = page.iter().filter(|found| !hidden.contains(&found.id));
    let data: Vec<Value> = shown.map(|shown| json!(SubscriptionView::of(shown))).collect();
    let next = page.last().filter(|_| has_more).map(|last| last.id.to_string());
    Ok(query.page(&data, next.as_deref(), has_more))
}

/// `GET /v1/subscriptions/{id}`.
pub(crate) async fn get(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let subscription = find(&api, &caller, &path).await?;
    let mut view = json!(SubscriptionView::of(&subscription));
    let cursor = api.store.select_pull_cursor(subscription.id).await?;
    let expired = api.store.select_expired(subscription.id).await?;
    if let Some(members) = view.as_object_mut() {
        if let Some(cursor) = cursor {
            members.insert("cursor".into(), json!(cursor.position.to_string()));
        }
        if let Some(Expiration { events, up_to }) = expired {
            let expired = json!({ "events": events, "up_to": up_to.to_string() });
            members.insert("expired".into(), expired);
        }
        verification::show(&api, &subscription, members).await?;
    }
    Ok(HttpResponse::Ok().json(view))
}

/// `PATCH /v1/subscriptions/{id}`: what is given is changed; null puts the default in force.
pub(crate) async fn patch(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let given = |current: &Subscription| read_given(&api, &body)?.over(current.definition.clone());
    redefine(&api, (&caller, &request), &path, given).await
}

/// `PUT /v1/subscriptions/{id}`: what is not given is the default; the secret stays unless another is given.
pub(crate) async fn put(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let given = |current: &Subscription| {
        read_given(&api, &body)?.whole(current.definition.signing().clone())
    };
    redefine(&api, (&caller, &request), &path, given).await
}

fn read_given(api: &Api, body: &[u8]) -> Result<Given, Problem> {
    let mut fields = Fields::of(body)?;
    let given = Given::take(&mut fields, &api.targets);
    fields.finish()?;
    Ok(given)
}

async fn redefine(
    api: &Api,
    by: (&Caller, &HttpRequest),
    id: &str,
    definition: impl Fn(&Subscription) -> Result<Definition, Problem>,
) -> Result<HttpResponse, Problem> {
    let changed = make(api, by, id, |current| {
        let definition = definition(&current)?.replacing(&current.definition);
        verification::must_be_possible(api, &definition, Some(&current.definition))?;
        by.0.must_cover(&definition.event_types)?;
        let same = definition == current.definition;
        let elsewhere = !definition.channel.has_same_receiver(&current.definition.channel);
        // What the receiver at the former URL did says nothing of the one at the new.
        let status = match current.status {
            Status::Paused | Status::Disabled => current.status,
            Status::Failing if !elsewhere && !definition.awaits_verification() => Status::Failing,
            _ => definition.running_status(),
        };
        Ok((!same).then(|| change::updated(Subscription { definition, status, ..current })))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&changed.await?)))
}

/// `POST /v1/subscriptions/{id}/pause`.
pub(crate) async fn pause(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let paused = make(&api, (&caller, &request), &path, |current| {
        let goes_on = current.status.is_delivering() || current.status == Status::Unverified;
        Ok(goes_on.then(|| change::paused(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&paused.await?)))
}

/// `POST /v1/subscriptions/{id}/resume`: also after the hub disabled it. A receiver that is still to agree must do so first.
pub(crate) async fn resume(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let resumed = make(&api, (&caller, &request), &path, |current| {
        let is_in_force = current.status == current.definition.running_status();
        Ok((!is_in_force).then(|| change::resumed(current)))
    });
    Ok(HttpResponse::Ok().json(SubscriptionView::of(&resumed.await?)))
}

/// `DELETE /v1/subscriptions/{id}`: 204, and 204 again when repeated.
pub(crate) async fn delete(
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    unsubscribe(&api, (&caller, &request), &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /v1/subscriptions` for clients that cannot put the id in the path: `{"id"}`, or `{"callback_url"}`, which
/// ends every subscription of the tenant with that URL.
pub(crate) async fn delete_by_body(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let mut fields = Fields::of(&body)?;
    let id = fields.text("id", 64).value();
    let url = callback_text(&mut fields);
    fields.finish()?;
    let by = (&caller, &request);
    match (id, url) {
        (Some(id), None) => unsubscribe(&api, by, &id).await?,
        (None, Some((_, Some(Value::String(callback_url))))) if !callback_url.contains('\0') => {
            let filter = SubscriptionFilter {
                callback_url: Some(callback_url),
                ..SubscriptionFilter::default()
            };
            let found =
                api.store.select_subscriptions(&caller.tenant, &filter, 0, i64::MAX).await?;
            let hidden =
                visibility::hidden(&api, &caller, found.iter().map(|found| found.id)).await?;
            for subscription in found.into_iter().filter(|found| !hidden.contains(&found.id)) {
                unsubscribe(&api, by, &subscription.id.to_string()).await?;
            }
        }
        _ => {
            let detail = "expected either id or callback_url, as a string".to_owned();
            return Err(Problem::invalid(vec![FieldError { pointer: String::new(), detail }]));
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn unsubscribe(api: &Api, by: (&Caller, &HttpRequest), id: &str) -> Result<(), Problem> {
    match make(api, by, id, |current| Ok(Some(change::deleted(current)))).await {
        Ok(_) => Ok(()),
        Err(problem) => match id.parse() {
            Ok(id)
                if api.store.is_subscription_deleted(&by.0.tenant, id).await?
                    && problem.is_not_found() =>
            {
                Ok(())
            }
            _ => Err(problem),
        },
    }
}

/// Makes the change that `change` wants of the subscription as it stands; `None`: it is as wanted already.
async fn make(
    api: &Api,
    (caller, request): (&Caller, &HttpRequest),
    id: &str,
    change: impl Fn(Subscription) -> Result<Option<Change>, Problem>,
) -> Result<Subscription, Problem> {
    for _ in 0..CHANGE_TRIES {
        let current = find(api, caller, id).await?;
        let Some(change) = change(current.clone())? else { return Ok(current) };
        let by = actor(&caller.key.name, request);
        if let ChangeResult::Applied { position, .. } =
            api.log.change(&change, Some(&current), &by).await?
        {
            return Ok(Subscription { changed_at: position, ..change.subscription });
        }
    }
    Err(Problem::new(Code::Conflict, "others keep changing this subscription; try again"))
}

/// The caller's subscription of that id, if it is there for the caller's key.
pub(crate) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<Subscription, Problem> {
    let no_such = || Problem::not_found("subscription");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_subscription(&caller.tenant, id).await?.ok_or_else(no_such)?;
    visibility::must_be_there(api, caller, id).await?;
    Ok(found)
}
