//! `GET /v1/events/{id}`, and finding an event for a caller.

use std::sync::Arc;

use actix_web::{HttpResponse, web};

use crate::api::auth::context::{Authorized, Context};
use crate::api::http::input::NoQuery;
use crate::api::problem::Problem;
use crate::domain::access::scope::Scope;
use crate::domain::event::Event;
use crate::domain::position::Position;

/// `GET /v1/events/{id}`: returns an event.
pub(super) async fn get(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let event = find_event(&context, &id).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(event.body.clone()))
}

/// Finds an event of the caller's tenant by the text of its id. 404 if it does not exist or the key's event types do
/// not cover it.
pub(crate) async fn find_event(context: &Context, id: &str) -> Result<Arc<Event>, Problem> {
    let Context { api, caller, .. } = context;
    let no_such = || Problem::not_found("event");
    let position: Position = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.read_at(&[position.stored()], Some(&caller.tenant)).await?;
    let sees_reserved = caller.key.scopes.allow(Scope::Subscribe);
    let found = found.into_iter().find(|event| {
        caller.key.reaches(event.event_type.as_str())
            && (sees_reserved || !event.event_type.is_reserved())
    });
    found.ok_or_else(no_such)
}
