//! `DELETE /v1/keys/{id}`.

use actix_web::{HttpResponse, web};
use uuid::Uuid;

use super::list::find_key;
use super::view::view;
use crate::api::auth::context::Authorized;
use crate::api::http::input::NoQuery;
use crate::api::problem::{Code, Problem};
use crate::domain::access::audit::{Action, AuditEntry};
use crate::domain::time::UnixMillis;
use crate::log::RevocationReach;

/// `DELETE /v1/keys/{id}`: revokes a key. Responds 204, also when repeated.
///
/// By then every node refuses the key and closes its connections.
pub(super) async fn revoke(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let key = find_key(&context, &id).await?;
    let token = Uuid::new_v4();
    let now = UnixMillis::now();
    let target = key.id.to_string();
    let action = Action { tenant: &context.caller.tenant, name: "key.revoked", target };
    let entry = AuditEntry::new(now, token, &context.actor(), action).with(Some(view(&key)), None);
    match context.api.log.revoke_key(&key, token, &entry).await? {
        Some(RevocationReach::Everywhere) => Ok(HttpResponse::NoContent().finish()),
        Some(RevocationReach::Unconfirmed) => Err(Problem::new(
            Code::Unavailable,
            "the key is revoked, but one node has not confirmed it in time and may still accept the key; retry",
        )),
        None => Err(Problem::not_found("key")),
    }
}
