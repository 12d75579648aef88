//! `POST /v1/subscriptions/{id}/verify`.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::find::find_subscription;
use crate::api::auth::context::Authorized;
use crate::api::events::append::{append, event_about};
use crate::api::http::idempotency;
use crate::api::http::input::NoQuery;
use crate::api::problem::{Code, Problem};
use crate::domain::subscription::Status;
use crate::domain::subscription::command::Command;

/// `POST /v1/subscriptions/{id}/verify`: starts another verification attempt now, and the retry schedule again.
pub(super) async fn verify(
    Authorized(context, NoQuery): Authorized,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let claim = idempotency::claim(&context, b"").await?;
    let subscription = find_subscription(&context, &id).await?;
    let response = json!({ "subscription": subscription.id.to_string() });
    if idempotency::first(&context, claim.as_ref()).await?.is_some() {
        return Ok(idempotency::replayed(&mut HttpResponse::Accepted()).json(response));
    }
    if subscription.status != Status::Unverified {
        let detail = match subscription.definition.channel.verification() {
            None => "the subscription has no handshake".to_owned(),
            Some(_) if subscription.definition.awaits_verification() => {
                format!("the subscription is {}; resume it first", subscription.status.name())
            }
            Some(_) => "the receiver is already verified".to_owned(),
        };
        return Err(Problem::new(Code::NothingToVerify, detail));
    }
    context.audit("verification.requested", &subscription.id, response.clone()).await?;
    let event = event_about(subscription.id, Command::verify_entry_type(), &response);
    let mut appended = append(&context.api, &context.caller, claim, vec![event]).await?;
    Ok(appended.response.json(response))
}
