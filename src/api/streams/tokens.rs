//! Stream tokens: for browsers, which cannot set headers on an EventSource or a WebSocket.

use std::sync::Arc;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::json;

use crate::api::auth::caller::Caller;
use crate::api::http::body;
use crate::api::http::fields::Fields;
use crate::api::http::idempotency;
use crate::api::http::patterns::patterns;
use crate::api::problem::{FieldError, Problem};
use crate::api::state::Api;
use crate::domain::access::stream_token::StreamToken;
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;

/// How long a token is good unless its maker says otherwise, and at most, in seconds.
const TTL_S: (u32, u32) = (300, 3_600);
/// The longest token, which has its place in a URL.
const MAX_LENGTH: usize = 4_096;

/// `POST /v1/stream-tokens`.
pub(crate) async fn create(
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&request, payload).await?;
    let mut fields = Fields::of(&body)?;
    let types = patterns(&mut fields, "types").value();
    let ttl_s = fields.number("ttl_s", 1..=TTL_S.1).value().unwrap_or(TTL_S.0);
    fields.finish()?;
    let Some(types) = types else {
        let detail = "is missing; expected an array of patterns, e.g. [\"order.*\"]".to_owned();
        return Err(Problem::invalid(vec![FieldError { pointer: "/types".into(), detail }]));
    };
    caller.must_cover(&types)?;
    caller.must_be_subscriber_of(&types)?;
    let mut claim = idempotency::claim(&api, &caller, &request, &body).await?;
    if let Some(claim) = &mut claim {
        // A token ends with the key that made it.
        claim.depends_on(caller.key.name.as_bytes());
    }
    if let Some(first) = idempotency::first(&api, &caller, claim.as_ref()).await? {
        return Ok(idempotency::answer(created(), first));
    }
    let answer = answer(&api, &caller, types, ttl_s)?;
    if let Some(claim) = &claim
        && !api.store.insert_stored_response(&caller.tenant, &claim.key, &answer).await?
    {
        let first = idempotency::first(&api, &caller, Some(claim)).await?;
        return first
            .map(|first| idempotency::answer(created(), first))
            .ok_or_else(idempotency::met);
    }
    Ok(created().content_type("application/json").body(answer))
}

fn created() -> HttpResponseBuilder {
    let mut response = HttpResponse::Created();
    response.insert_header((CACHE_CONTROL, "no-store"));
    response
}

/// A token of the caller's for these types, with what it allows.
fn answer(api: &Api, caller: &Caller, types: Vec<Pattern>, ttl_s: u32) -> Result<String, Problem> {
    let expires = UnixMillis::now().after(std::time::Duration::from_secs(ttl_s.into()));
    let token = StreamToken {
        tenant: Arc::clone(&caller.tenant),
        key: Arc::clone(&caller.key.name),
        types: types.into(),
        // With its key it ends in any case.
        expires: caller.key.expires_at.map_or(expires, |end| end.min(expires)),
    };
    let text = token.sign(&api.token_secret);
    if text.len() > MAX_LENGTH {
        let detail = format!(
            "makes a token of more than {MAX_LENGTH} characters, too long for a URL; name fewer"
        );
        return Err(Problem::invalid(vec![FieldError { pointer: "/types".into(), detail }]));
    }
    let shown: Vec<&str> = token.types.iter().map(Pattern::as_str).collect();
    Ok(json!({ "token": text, "types": shown, "expires_at": token.expires }).to_string())
}
