//! Who asks: the key in `Authorization`, and the tenant it speaks for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::{FromRequest, HttpRequest};

use super::access::{Access, access};
use crate::access::keys::{Key, KeyStatus};
use crate::api::http::client_address::client_address;
use crate::api::http::query::{TOKEN, tokens};
use crate::api::problem::{Code, Problem};
use crate::api::state::api;
use crate::domain::access::networks::client_network;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::{Pattern, is_reserved};
use crate::domain::time::UnixMillis;
use crate::streaming::presence::ConnectionOwner;

/// The header by which an admin key speaks for a tenant.
const TENANT_HEADER: &str = "hookhub-tenant";

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// On whose behalf.
    pub(crate) tenant: Arc<str>,
    /// With which key.
    pub(crate) key: Arc<Key>,
    /// What that may do here.
    pub(crate) scopes: Scopes,
}

impl Caller {
    /// As whom connections are counted.
    pub(crate) fn owner(&self, request: &HttpRequest) -> ConnectionOwner {
        let network = client_network(client_address(request));
        ConnectionOwner { tenant: Arc::clone(&self.tenant), key: Arc::clone(&self.key), network }
    }

    /// Refuses those whose key has not got `scope`.
    pub(crate) fn must_have(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        let detail = format!(
            "this takes a key with the scope {scope}; the scopes of this one: {}",
            self.scopes
        );
        Err(Problem::new(Code::Forbidden, detail))
    }

    /// Refuses those for whose key not every event of these patterns is there.
    pub(crate) fn must_cover(&self, patterns: &[Pattern]) -> Result<(), Problem> {
        match patterns.iter().find(|one| !self.key.covers_one(one)) {
            None => Ok(()),
            Some(refused) => Err(self.beyond(refused)),
        }
    }

    /// Refuses those without the scope `subscribe` the hub's own events, which tell of subscriptions.
    pub(crate) fn must_be_subscriber_of(&self, patterns: &[Pattern]) -> Result<(), Problem> {
        let own = patterns.iter().find(|one| is_reserved(one.as_str()));
        match own.filter(|_| !self.key.scopes.allow(Scope::Subscribe)) {
            None => Ok(()),
            Some(own) => Err(Problem::new(
                Code::Forbidden,
                format!("{own} tells of subscriptions: this takes a key with the scope subscribe"),
            )),
        }
    }

    /// Refuses those for whose key events of this type are not there.
    pub(crate) fn must_reach(&self, event_type: &str) -> Result<(), Problem> {
        if self.key.reaches(event_type) { Ok(()) } else { Err(self.beyond(&event_type)) }
    }

    fn beyond(&self, refused: &impl fmt::Display) -> Problem {
        let allowed = self.key.event_types.iter().flat_map(|patterns| patterns.iter());
        let allowed: Vec<&str> = allowed.map(Pattern::as_str).collect();
        let detail =
            format!("the event_types of this key are {}; not {refused}", allowed.join(", "));
        Problem::new(Code::Forbidden, detail)
    }
}

/// Whether a text can name a tenant: 1 to 64 of `A-Z a-z 0-9 _ . -`.
pub(crate) fn is_tenant(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let access = access(&request)?;
            let caller = authenticate(&request).await?;
            if let Access::Scope(scope) = access {
                caller.must_have(scope)?;
            }
            Ok(caller)
        })
    }
}

async fn authenticate(request: &HttpRequest) -> Result<Caller, Problem> {
    let api = api(request)?;
    let header = only(request, AUTHORIZATION.as_str())?;
    let text = header.and_then(|value| value.to_str().ok()).and_then(bearer);
    let text = text.ok_or_else(|| no_key(request))?;
    let named = named_tenant(request)?;
    let Some(key) = api.admin.find(text, &api.keys).await? else {
        return Err(Problem::new(Code::Unauthorized, "this key is not known here"));
    };
    let now = UnixMillis::now();
    must_be_in_force(&key, now)?;
    key.note_use(now);
    let tenant = match named {
        Some(named) if key.scopes.allow(Scope::Admin) => named,
        Some(other) if other != key.tenant => {
            return Err(Problem::new(
                Code::Forbidden,
                "this key speaks for its own tenant alone; leave Hookhub-Tenant out",
            ));
        }
        _ => Arc::clone(&key.tenant),
    };
    Ok(Caller { tenant, scopes: key.scopes, key })
}

/// What is told to those who come without a key. A token is good for reading events, where it is looked at first.
fn no_key(request: &HttpRequest) -> Problem {
    let right = "send a key as \"Authorization: Bearer <key>\"";
    let detail = if tokens(request).is_empty() {
        right.to_owned()
    } else {
        format!("{TOKEN} opens GET /v1/events, /v1/stream and /v1/ws, and nothing else; {right}")
    };
    Problem::new(Code::Unauthorized, detail)
}

/// Refuses a key that was good before.
pub(crate) fn must_be_in_force(key: &Key, now: UnixMillis) -> Result<(), Problem> {
    let detail = match key.status(now) {
        KeyStatus::Active => return Ok(()),
        KeyStatus::Revoked => "this key was revoked".to_owned(),
        KeyStatus::Expired(end) => format!("this key has expired, at {end}"),
    };
    Err(Problem::new(Code::Unauthorized, detail))
}

/// The value of a header that may come once.
pub(crate) fn only<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => {
            Err(Problem::new(Code::InvalidHeader, format!("{name} is given more than once")))
        }
    }
}

/// RFC 6750, 2.1; the scheme's case does not matter.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
}

/// The tenant that the header `Hookhub-Tenant` names.
pub(crate) fn named_tenant(request: &HttpRequest) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = only(request, TENANT_HEADER)? else { return Ok(None) };
    match value.to_str() {
        Ok(name) if is_tenant(name) => Ok(Some(name.into())),
        _ => Err(Problem::new(
            Code::InvalidHeader,
            "Hookhub-Tenant names a tenant by 1 to 64 letters, digits, _, . and -",
        )),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[tokio::test]
    async fn a_route_that_does_not_say_who_may_ask_answers_nobody() {
        let request = TestRequest::default().to_http_request();
        let refused = Caller::from_request(&request, &mut Payload::None).await;
        assert_eq!(refused.map(|_| ()).map_err(|problem| problem.code()), Err(Code::Internal));
    }
}
