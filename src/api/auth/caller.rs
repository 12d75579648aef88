//! The caller of a request: the key in `Authorization` and the tenant it acts for.

use std::fmt;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;

use crate::access::keys::{Key, Operation};
use crate::api::http::headers::single_header;
use crate::api::http::query::{TOKEN, tokens};
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::route::{Access, access};
use crate::api::state::{Api, api};
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::{Pattern, is_reserved};
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The tenant the caller acts for. Only an admin key may act for another tenant than its own.
    pub(crate) tenant: Arc<str>,
    pub(crate) key: Arc<Key>,
    /// The scopes of this request. With a stream token they are fewer than the key's.
    pub(crate) scopes: Scopes,
}

impl Caller {
    /// Authenticates a request by its key, and checks the scope that the route demands. 401 or 403 if either fails.
    pub(super) async fn authorize(request: &HttpRequest) -> ApiResult<Self> {
        let access = access(request)?;
        let caller = authenticate(request).await?;
        caller.require_access(access)?;
        Ok(caller)
    }

    /// Begins an operation. 401 if the key was revoked or has expired since the caller was authorised.
    pub(super) async fn begin_operation(&self, api: &Api) -> ApiResult<Operation> {
        api.keys.recheck(&self.key).await?;
        Ok(self.key.begin_operation(UnixMillis::now())?)
    }

    /// 403 without the scope that the access rule demands. A public route demands none.
    pub(super) fn require_access(&self, access: Access) -> ApiResult<()> {
        match access {
            Access::Public => Ok(()),
            Access::Scope(scope) => self.require_scope(scope),
        }
    }

    /// Checks that the key has this scope, or the scope `admin`, which includes all others; else 403.
    pub(crate) fn require_scope(&self, scope: Scope) -> ApiResult<()> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        let detail =
            format!("this needs a key with the scope {scope}; this key's scopes: {}", self.scopes);
        Err(Problem::new(Code::Forbidden, detail))
    }

    /// Checks that the event types of the key include all events that these patterns can match; else 403.
    pub(crate) fn require_patterns(&self, patterns: &[Pattern]) -> ApiResult<()> {
        match patterns.iter().find(|one| !self.key.covers_one(one)) {
            None => Ok(()),
            Some(refused) => Err(self.outside_event_types(refused)),
        }
    }

    /// 403 without the scope `subscribe` if a pattern names the reserved event types `hookhub.*`.
    pub(crate) fn require_subscribe_for_reserved(&self, patterns: &[Pattern]) -> ApiResult<()> {
        let reserved = patterns.iter().find(|one| is_reserved(one.as_str()));
        match reserved.filter(|_| !self.key.scopes.allow(Scope::Subscribe)) {
            None => Ok(()),
            Some(reserved) => Err(Problem::new(
                Code::Forbidden,
                format!(
                    "{reserved} describes subscriptions; this needs a key with the scope subscribe"
                ),
            )),
        }
    }

    /// Checks that the event types of the key include `event_type`; else 403.
    pub(crate) fn require_event_type(&self, event_type: &str) -> ApiResult<()> {
        if self.key.reaches(event_type) {
            Ok(())
        } else {
            Err(self.outside_event_types(&event_type))
        }
    }

    /// 403. `refused`: the event type or pattern that the key's event types do not include.
    fn outside_event_types(&self, refused: &impl fmt::Display) -> Problem {
        let allowed = self.key.event_types.iter().flat_map(|patterns| patterns.iter());
        let allowed: Vec<&str> = allowed.map(Pattern::as_str).collect();
        let detail =
            format!("this key is limited to the event types {}, not {refused}", allowed.join(", "));
        Problem::new(Code::Forbidden, detail)
    }
}

/// Finds the caller by its key and `Hookhub-Tenant`, and records the use. 400 for a repeated header or an invalid
/// tenant name, 401 without a valid key, 403 for another tenant without `admin`.
async fn authenticate(request: &HttpRequest) -> ApiResult<Caller> {
    let api = api(request)?;
    let header = single_header(request, AUTHORIZATION.as_str())?;
    let text = header.and_then(|value| value.to_str().ok()).and_then(bearer);
    let text = text.ok_or_else(|| missing_key(request))?;
    let requested = requested_tenant(request)?;
    let Some(key) = api.admin.find(text, &api.keys).await? else {
        return Err(Problem::new(Code::Unauthorized, "this key does not exist"));
    };
    let now = UnixMillis::now();
    key.require_valid(now)?;
    key.record_use(now);
    let tenant = match requested {
        Some(requested) if key.scopes.allow(Scope::Admin) => requested,
        Some(other) if other != key.tenant => {
            return Err(Problem::new(
                Code::Forbidden,
                "only a key with the scope admin may act for another tenant; leave out Hookhub-Tenant",
            ));
        }
        _ => Arc::clone(&key.tenant),
    };
    Ok(Caller { tenant, scopes: key.scopes, key })
}

/// 401. If the request has a stream token, the problem names the paths that accept one.
fn missing_key(request: &HttpRequest) -> Problem {
    let fix = "send a key as \"Authorization: Bearer <key>\"";
    let detail = if tokens(request).is_empty() {
        fix.to_owned()
    } else {
        format!("{TOKEN} is accepted only by GET /v1/events, /v1/stream and /v1/ws; {fix}")
    };
    Problem::new(Code::Unauthorized, detail)
}

/// The key in an `Authorization` header `Bearer KEY`; the scheme may be in any case (RFC 6750, 2.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
}

const HEADER: &str = "hookhub-tenant";

/// Returns whether a text is a valid tenant name: 1 to 64 characters of `A-Z a-z 0-9 _ . -`.
pub(crate) fn is_tenant_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Returns the tenant in the header `Hookhub-Tenant`. `None` without the header; 400 for an invalid name.
pub(super) fn requested_tenant(request: &HttpRequest) -> ApiResult<Option<Arc<str>>> {
    let Some(value) = single_header(request, HEADER)? else { return Ok(None) };
    match value.to_str() {
        Ok(name) if is_tenant_name(name) => Ok(Some(name.into())),
        _ => Err(Problem::new(
            Code::InvalidHeader,
            "Hookhub-Tenant must be a tenant name: 1 to 64 letters, digits, _, . and -",
        )),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[tokio::test]
    async fn a_route_without_an_access_rule_serves_nobody() {
        let request = TestRequest::default().to_http_request();
        let refused = Caller::authorize(&request).await;
        assert_eq!(refused.map(|_| ()).map_err(|problem| problem.code()), Err(Code::Internal));
    }
}
