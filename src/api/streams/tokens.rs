//! Stream tokens, for browsers, which cannot set headers on an EventSource or a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::json;

use crate::api::auth::context::{Authorized, Context};
use crate::api::http::fields::patterns;
use crate::api::http::idempotency;
use crate::api::http::input::JsonBody;
use crate::api::problem::{ApiResult, Problem};
use crate::domain::access::stream_token::StreamToken;
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;

const DEFAULT_TTL_S: u32 = 300;
const MAX_TTL_S: u32 = 3_600;
/// The longest token: it must fit into a URL.
const MAX_TOKEN_BYTES: usize = 4_096;

struct TokenInput {
    types: Vec<Pattern>,
    ttl: Duration,
}

impl TokenInput {
    fn parse(body: &JsonBody) -> ApiResult<Self> {
        let mut fields = body.fields()?;
        let types = patterns(&mut fields, "types").value();
        let ttl_s = fields.number("ttl_s", 1..=MAX_TTL_S).value().unwrap_or(DEFAULT_TTL_S);
        fields.finish()?;
        let types = types.ok_or_else(|| {
            let detail = "is missing; expected an array of patterns, e.g. [\"order.*\"]";
            Problem::invalid_field("/types", detail)
        })?;
        Ok(Self { types, ttl: Duration::from_secs(ttl_s.into()) })
    }
}

/// `POST /v1/stream-tokens`: issues a stream token. A browser sends it in the URL instead of a key, to read events.
pub(super) async fn create(Authorized(context, body): Authorized<JsonBody>) -> ApiResult {
    let (api, caller) = (&context.api, &context.caller);
    let input = TokenInput::parse(&body)?;
    caller.require_patterns(&input.types)?;
    caller.require_subscribe_for_reserved(&input.types)?;
    let mut claim = idempotency::claim(&context, &body.0).await?;
    if let Some(claim) = &mut claim {
        // A token ends with the key that issued it, so a request with another key is a different request.
        claim.add_to_fingerprint(caller.key.name.as_bytes());
    }
    if let Some(first) = idempotency::first_response(&context, claim.as_ref()).await? {
        return Ok(idempotency::repeat_response(created(), first));
    }
    let response = issue(&context, input)?;
    if let Some(claim) = &claim
        && !api.store.insert_stored_response(&caller.tenant, &claim.key, &response).await?
    {
        let first = idempotency::first_response(&context, Some(claim)).await?;
        return first
            .map(|first| idempotency::repeat_response(created(), first))
            .ok_or_else(idempotency::concurrent_requests);
    }
    Ok(created().content_type("application/json").body(response))
}

/// Starts a 201 response with a header that forbids caches to store it.
fn created() -> HttpResponseBuilder {
    let mut response = HttpResponse::Created();
    response.insert_header((CACHE_CONTROL, "no-store"));
    response
}

/// Creates and signs a token, and returns the JSON of the response. 422 if the token is too long for a URL.
fn issue(context: &Context, input: TokenInput) -> ApiResult<String> {
    let Context { api, caller, .. } = context;
    let expires = UnixMillis::now().after(input.ttl);
    let token = StreamToken {
        tenant: Arc::clone(&caller.tenant),
        key: Arc::clone(&caller.key.name),
        types: input.types.into(),
        // Never later than the key.
        expires: caller.key.expires_at.map_or(expires, |end| end.min(expires)),
    };
    let text = token.sign(&api.token_secret);
    if text.len() > MAX_TOKEN_BYTES {
        let detail = format!(
            "makes a token of {} characters, and a URL has room for {MAX_TOKEN_BYTES}; send fewer patterns",
            text.len()
        );
        return Err(Problem::invalid_field("/types", detail));
    }
    Ok(json!({ "token": text, "types": *token.types, "expires_at": token.expires }).to_string())
}
