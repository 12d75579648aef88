//! Who reads events: a caller with a key, or with a stream token in the query, which allows some types for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use tokio::time::Instant;
use url::form_urlencoded;

use super::Api;
use super::caller::{Caller, access, named_tenant};
use super::problem::{Code, Problem};
use super::query::{Query, TOKEN, invalid};
use super::routes::Access;
use super::subscription_input::MOST_PATTERNS;
use crate::stream::{Filter, Source};
use crate::values::event_type::Pattern;
use crate::values::scope::Scope;
use crate::values::stream_token::StreamToken;
use crate::values::time::UnixMillis;

/// Who reads, and what they may read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// On whose behalf.
    pub(super) caller: Caller,
    /// What a token allows; `None`: it is a key, which allows everything of its tenant.
    token: Option<StreamToken>,
}

impl Reading {
    /// With a key.
    pub(super) fn with_key(caller: Caller) -> Self {
        Self { caller, token: None }
    }

    /// Refuses those who come with a token.
    pub(super) fn must_have_key(&self) -> Result<(), Problem> {
        if self.token.is_none() {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "a stream token can read and do nothing else; use a key"))
    }

    /// What is read: the patterns in `types`, or all that may be.
    pub(super) fn filter(&self, query: &Query) -> Result<Filter, Problem> {
        let Some(text) = query.text("types") else { return self.filter_of(None) };
        let read = |text: &str| {
            text.parse().map_err(|error| invalid("types", &format!("{text:?}: {error}")))
        };
        let patterns: Vec<Pattern> = text.split(',').map(read).collect::<Result<_, _>>()?;
        if patterns.len() > MOST_PATTERNS {
            return Err(invalid("types", &format!("names at most {MOST_PATTERNS} patterns")));
        }
        self.filter_of(Some(patterns))
    }

    /// The events of these types, or of all that may be read.
    pub(super) fn filter_of(&self, patterns: Option<Vec<Pattern>>) -> Result<Filter, Problem> {
        let patterns: Arc<[Pattern]> = match (patterns, &self.token) {
            (None, None) => [Pattern::any()].into(),
            (None, Some(token)) => Arc::clone(&token.types),
            (Some(patterns), None) => patterns.into(),
            (Some(patterns), Some(token)) => {
                let may = |one: &Pattern| token.types.iter().any(|allowed| allowed.covers(one));
                if let Some(refused) = patterns.iter().find(|one| !may(one)) {
                    let allowed: Vec<&str> = token.types.iter().map(Pattern::as_str).collect();
                    let detail = format!("this token reads {}, not {refused}", allowed.join(", "));
                    return Err(Problem::new(Code::Forbidden, detail));
                }
                patterns.into()
            }
        };
        let tenant = Arc::clone(&self.caller.tenant);
        Ok(Filter { tenant, source: Source::Types(patterns) })
    }

    /// When the reading ends.
    pub(super) fn expires(&self) -> Option<Instant> {
        let left_ms = self.token.as_ref()?.expires.as_i64() - UnixMillis::now().as_i64();
        Some(Instant::now() + Duration::from_millis(left_ms.try_into().unwrap_or_default()))
    }
}

impl FromRequest for Reading {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let tokens: Vec<String> = form_urlencoded::parse(request.query_string().as_bytes())
            .filter(|(name, _)| name == TOKEN)
            .map(|(_, value)| value.into_owned())
            .collect();
        let [token] = tokens.as_slice() else {
            let caller = Caller::from_request(request, payload);
            return Box::pin(async move { Ok(Self::with_key(caller.await?)) });
        };
        let read = with_token(request, token);
        Box::pin(async move { read })
    }
}

fn with_token(request: &HttpRequest, token: &str) -> Result<Reading, Problem> {
    let Some(api) = request.app_data::<web::Data<Api>>() else {
        return Err(Problem::new(Code::Internal, "the hub is not set up"));
    };
    if request.headers().contains_key(AUTHORIZATION) {
        let detail = "send a key in Authorization or a token as access_token, not both";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let token = StreamToken::open(token, &api.token_secret, UnixMillis::now()).map_err(|bad| {
        let right = "POST /v1/stream-tokens makes another";
        Problem::new(Code::Unauthorized, format!("{TOKEN}: {bad}; {right}"))
    })?;
    if named_tenant(request)?.is_some_and(|named| named != token.tenant) {
        return Err(Problem::new(
            Code::Forbidden,
            "this token speaks for its own tenant alone; leave Hookhub-Tenant out",
        ));
    }
    let caller = Caller {
        tenant: Arc::clone(&token.tenant),
        key: Arc::clone(&token.key),
        scopes: [Scope::Read, Scope::Stream].into_iter().collect(),
    };
    if let Access::Scope(scope) = access(request)? {
        caller.must_have(scope)?;
    }
    Ok(Reading { caller, token: Some(token) })
}
