//! Access to events: a key, or a stream token in the query, which allows some event types for a limited time.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::caller::{Caller, requested_tenant};
use crate::access::keys::{Key, Operation};
use crate::api::http::fields::MAX_PATTERNS;
use crate::api::http::query::{Query, TOKEN, invalid, tokens};
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::route::access;
use crate::api::state::{Api, api};
use crate::domain::access::scope::Scope;
use crate::domain::access::stream_token::{InvalidToken, StreamToken};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;
use crate::streaming::{Filter, Source};

/// A caller and the events it may read.
#[derive(Debug, Clone)]
pub(crate) struct ReadAccess {
    pub(crate) caller: Caller,
    /// The stream token; `None` when the caller sent its key.
    token: Option<StreamToken>,
}

impl ReadAccess {
    /// Authenticates a request by its stream token or key, and checks the route's access rule. 401 or 403.
    pub(super) async fn authorize(request: &HttpRequest) -> ApiResult<Self> {
        match tokens(request).as_slice() {
            [] => Ok(Self::with_key(Caller::authorize(request).await?)),
            [token] => authorize_token(request, token).await,
            _ => Err(invalid(TOKEN, "appears more than once")),
        }
    }

    pub(crate) fn with_key(caller: Caller) -> Self {
        Self { caller, token: None }
    }

    /// Checks that the caller sent its key, not a stream token; else 403. A stream token can only read events.
    pub(crate) fn require_key(&self) -> ApiResult<()> {
        if self.token.is_none() {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "a stream token can only read events; use a key"))
    }

    /// The filter for the query parameter `types`; without it, for all events that the caller may read.
    pub(crate) fn filter(&self, query: &Query) -> ApiResult<Filter> {
        let Some(text) = query.text("types") else { return self.filter_of(None) };
        // The error names a pattern by its number. Its text may be a secret that was pasted by mistake.
        let parse = |(number, text): (usize, &str)| {
            text.parse().map_err(|error| invalid("types", &format!("pattern {number}: {error}")))
        };
        let patterns: Vec<Pattern> =
            (1..).zip(text.split(',')).map(parse).collect::<Result<_, _>>()?;
        if patterns.len() > MAX_PATTERNS {
            return Err(invalid("types", &format!("has more than {MAX_PATTERNS} patterns")));
        }
        self.filter_of(Some(patterns))
    }

    /// The filter for these patterns; `None`: all events that the caller may read. 403 for a pattern that the key or
    /// the token does not allow.
    pub(crate) fn filter_of(&self, patterns: Option<Vec<Pattern>>) -> ApiResult<Filter> {
        let key = &self.caller.key;
        let allowed = self.token.as_ref().map(|token| &token.types).or(key.event_types.as_ref());
        let patterns: Arc<[Pattern]> = match (patterns, allowed) {
            (None, None) => [Pattern::any()].into(),
            (None, Some(allowed)) => Arc::clone(allowed),
            (Some(patterns), _) => patterns.into(),
        };
        if let Some(token) = &self.token {
            let may = |one: &Pattern| token.types.iter().any(|allowed| allowed.covers(one));
            if let Some(refused) = patterns.iter().find(|one| !may(one)) {
                let allowed: Vec<&str> = token.types.iter().map(Pattern::as_str).collect();
                let detail = format!(
                    "this token is limited to the event types {}, not {refused}",
                    allowed.join(", ")
                );
                return Err(Problem::new(Code::Forbidden, detail));
            }
        }
        self.caller.require_patterns(&patterns)?;
        self.caller.require_subscribe_for_reserved(&patterns)?;
        let tenant = Arc::clone(&self.caller.tenant);
        Ok(Filter { tenant, source: Source::Types(patterns) })
    }

    /// Begins an operation during a connection. 401 if the key or the token was revoked or has expired.
    pub(crate) async fn begin_operation(&self, api: &Api) -> ApiResult<Operation> {
        let operation = self.caller.begin_operation(api).await?;
        let now = UnixMillis::now();
        self.caller.key.record_use(now);
        match &self.token {
            Some(token) if token.expires <= now => Err(bad_token(InvalidToken::Expired)),
            _ => Ok(operation),
        }
    }

    /// Returns the time at which the stream token expires. `None` for a caller with a key.
    pub(crate) fn token_expires_at(&self) -> Option<Instant> {
        let left_ms = self.token.as_ref()?.expires.as_i64() - UnixMillis::now().as_i64();
        Some(Instant::now() + Duration::from_millis(left_ms.try_into().unwrap_or_default()))
    }
}

/// Authenticates a request by its stream token. 401 for an invalid token or issuing key, 403 without the scope or for
/// another tenant, 400 if the request has a key too.
async fn authorize_token(request: &HttpRequest, token: &str) -> ApiResult<ReadAccess> {
    let api = api(request)?;
    if request.headers().contains_key(AUTHORIZATION) {
        let detail = "send either a key in Authorization or a token as access_token, not both";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let now = UnixMillis::now();
    let token = StreamToken::verify(token, &api.token_secret, now).map_err(bad_token)?;
    let key = issuing_key(api, &token.key).await?;
    key.require_valid(now)?;
    if requested_tenant(request)?.is_some_and(|requested| requested != token.tenant) {
        return Err(Problem::new(
            Code::Forbidden,
            "a stream token is valid for its own tenant only; leave out Hookhub-Tenant",
        ));
    }
    key.record_use(now);
    let token_scopes = [Scope::Read, Scope::Stream];
    let scopes = token_scopes.into_iter().filter(|scope| key.scopes.allow(*scope)).collect();
    let caller = Caller { tenant: Arc::clone(&token.tenant), key, scopes };
    caller.require_access(access(request)?)?;
    Ok(ReadAccess { caller, token: Some(token) })
}

/// Finds the key that issued a stream token, by its name in the token; else 401. The caller must check that it is
/// neither revoked nor expired: the token is then invalid too.
async fn issuing_key(api: &Api, name: &str) -> ApiResult<Arc<Key>> {
    if *name == *api.admin.key.name {
        return Ok(Arc::clone(&api.admin.key));
    }
    let key = match name.parse() {
        Ok(id) => api.keys.by_id(id).await?,
        Err(_not_an_id) => None,
    };
    key.ok_or_else(|| bad_token(InvalidToken::Unknown))
}

fn bad_token(bad: InvalidToken) -> Problem {
    let fix = "get a new token with POST /v1/stream-tokens";
    Problem::new(Code::Unauthorized, format!("{TOKEN}: {bad}; {fix}"))
}
