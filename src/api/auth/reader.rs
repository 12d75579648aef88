//! Who reads events: a caller with a key, or with a stream token in the query, which allows some types for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest};
use tokio::time::Instant;

use super::access::{Access, access};
use super::caller::{Caller, must_be_in_force, named_tenant};
use crate::access::keys::Key;
use crate::api::http::patterns::MAX_PATTERNS;
use crate::api::http::query::{Query, TOKEN, invalid, tokens};
use crate::api::problem::{Code, Problem};
use crate::api::state::{Api, api};
use crate::domain::access::scope::Scope;
use crate::domain::access::stream_token::{InvalidToken, StreamToken};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;
use crate::streaming::{Filter, Source};

/// Who reads, and what they may read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// On whose behalf.
    pub(crate) caller: Caller,
    /// What a token allows; `None`: what its key allows.
    token: Option<StreamToken>,
}

impl Reading {
    /// With a key.
    pub(crate) fn with_key(caller: Caller) -> Self {
        Self { caller, token: None }
    }

    /// Refuses those who come with a token.
    pub(crate) fn must_have_key(&self) -> Result<(), Problem> {
        if self.token.is_none() {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "a stream token can read and do nothing else; use a key"))
    }

    /// What is read: the patterns in `types`, or all that may be.
    pub(crate) fn filter(&self, query: &Query) -> Result<Filter, Problem> {
        let Some(text) = query.text("types") else { return self.filter_of(None) };
        // By its number, not in its own words: nobody knows what was put there by mistake.
        let read = |(number, text): (usize, &str)| {
            text.parse().map_err(|error| invalid("types", &format!("pattern {number}: {error}")))
        };
        let patterns: Vec<Pattern> =
            (1..).zip(text.split(',')).map(read).collect::<Result<_, _>>()?;
        if patterns.len() > MAX_PATTERNS {
            return Err(invalid("types", &format!("names at most {MAX_PATTERNS} patterns")));
        }
        self.filter_of(Some(patterns))
    }

    /// The events of these types, or of all that may be read.
    pub(crate) fn filter_of(&self, patterns: Option<Vec<Pattern>>) -> Result<Filter, Problem> {
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
                let detail = format!("this token reads {}, not {refused}", allowed.join(", "));
                return Err(Problem::new(Code::Forbidden, detail));
            }
        }
        self.caller.must_cover(&patterns)?;
        self.caller.must_be_subscriber_of(&patterns)?;
        let tenant = Arc::clone(&self.caller.tenant);
        Ok(Filter { tenant, source: Source::Types(patterns) })
    }

    /// Refuses those whose key or token is over, while they still hold a connection.
    pub(crate) async fn must_still_be_good(&self, api: &Api) -> Result<(), Problem> {
        let (key, now) = (&self.caller.key, UnixMillis::now());
        api.keys.recheck(key).await?;
        must_be_in_force(key, now)?;
        key.note_use(now);
        match &self.token {
            Some(token) if token.expires <= now => Err(bad_token(InvalidToken::Expired)),
            _ => Ok(()),
        }
    }

    /// When the reading ends.
    pub(crate) fn expires(&self) -> Option<Instant> {
        let left_ms = self.token.as_ref()?.expires.as_i64() - UnixMillis::now().as_i64();
        Some(Instant::now() + Duration::from_millis(left_ms.try_into().unwrap_or_default()))
    }
}

impl FromRequest for Reading {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match tokens(request).as_slice() {
            [] => {
                let caller = Caller::from_request(request, payload);
                Box::pin(async move { Ok(Self::with_key(caller.await?)) })
            }
            [token] => {
                let (request, token) = (request.clone(), token.clone());
                Box::pin(async move { with_token(&request, &token).await })
            }
            _ => Box::pin(async { Err(invalid(TOKEN, "is given more than once")) }),
        }
    }
}

async fn with_token(request: &HttpRequest, token: &str) -> Result<Reading, Problem> {
    let api = api(request)?;
    if request.headers().contains_key(AUTHORIZATION) {
        let detail = "send a key in Authorization or a token as access_token, not both";
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let now = UnixMillis::now();
    let token = StreamToken::verify(token, &api.token_secret, now).map_err(bad_token)?;
    let key = maker(api, &token.key).await?;
    must_be_in_force(&key, now)?;
    if named_tenant(request)?.is_some_and(|named| named != token.tenant) {
        return Err(Problem::new(
            Code::Forbidden,
            "this token speaks for its own tenant alone; leave Hookhub-Tenant out",
        ));
    }
    key.note_use(now);
    let may_be = [Scope::Read, Scope::Stream];
    let scopes = may_be.into_iter().filter(|scope| key.scopes.allow(*scope)).collect();
    let caller = Caller { tenant: Arc::clone(&token.tenant), key, scopes };
    if let Access::Scope(scope) = access(request)? {
        caller.must_have(scope)?;
    }
    Ok(Reading { caller, token: Some(token) })
}

/// The key that made a token.
async fn maker(api: &Api, name: &str) -> Result<Arc<Key>, Problem> {
    if *name == *api.admin.key.name {
        return Ok(Arc::clone(&api.admin.key));
    }
    let known = match name.parse() {
        Ok(id) => api.keys.by_id(id).await?,
        Err(_not_an_id) => None,
    };
    known.ok_or_else(|| bad_token(InvalidToken::Unknown))
}

fn bad_token(bad: InvalidToken) -> Problem {
    let right = "POST /v1/stream-tokens makes another";
    Problem::new(Code::Unauthorized, format!("{TOKEN}: {bad}; {right}"))
}
