//! Who asks: the key in `Authorization`, and the tenant it speaks for.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::Api;
use super::client_address::client_address;
use super::problem::{Code, Problem};
use super::routes::Access;
use crate::store::{Store, StoreError};
use crate::stream::presence::Owner;
use crate::values::networks::home;
use crate::values::scope::{Scope, Scopes};

/// The header by which an admin key speaks for a tenant.
const TENANT_HEADER: &str = "hookhub-tenant";
/// What the admin key is called where keys are named by their id.
const ADMIN: &str = "admin";
/// The tenant of those who name none.
const DEFAULT_TENANT: &str = "default";
/// How long a key that was looked up is believed without looking again; other nodes may revoke it.
const BELIEVED: Duration = Duration::from_secs(5);
/// How many keys are remembered.
const MOST_REMEMBERED: usize = 10_000;

type Hash = [u8; 32];

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// On whose behalf.
    pub(super) tenant: Arc<str>,
    /// With which key: its id, or `admin`.
    pub(super) key: Arc<str>,
    /// What that may do.
    pub(super) scopes: Scopes,
}

impl Caller {
    /// As whom connections are counted.
    pub(super) fn owner(&self, request: &HttpRequest) -> Owner {
        let home = home(client_address(request));
        Owner { tenant: Arc::clone(&self.tenant), key: Arc::clone(&self.key), home }
    }

    /// Refuses those whose key has not got `scope`.
    pub(super) fn must_have(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        let detail = format!(
            "this takes a key with the scope {scope}; the scopes of this one: {}",
            self.scopes
        );
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// The hash a key is known by. Keys are random and long: there is nothing to guess, and so nothing to slow down.
pub(super) fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

/// Whether a text can name a tenant: 1 to 64 of `A-Z a-z 0-9 _ . -`.
pub(super) fn is_tenant(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The keys that open this hub.
#[derive(Debug)]
pub(super) struct Keys {
    admin: Hash,
    known: Mutex<HashMap<Hash, (Known, Instant)>>,
}

/// A key that is in force.
#[derive(Debug, Clone)]
struct Known {
    tenant: Arc<str>,
    id: Arc<str>,
}

impl Keys {
    /// With this admin key.
    pub(super) fn new(admin_key: &str) -> Self {
        Self { admin: hash(admin_key), known: Mutex::new(HashMap::new()) }
    }

    /// Forgets what was looked up, after a change on this node.
    pub(super) fn forget_all(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn is_admin(&self, hash: &Hash) -> bool {
        self.admin.ct_eq(hash).into()
    }

    async fn look_up(&self, hash: &Hash, store: &Store) -> Result<Option<Known>, StoreError> {
        if let Some((known, since)) =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).get(hash)
            && since.elapsed() < BELIEVED
        {
            return Ok(Some(known.clone()));
        }
        let Some(key) = store.key_by_hash(hash).await? else { return Ok(None) };
        let found = Known { tenant: key.tenant.into(), id: key.id.to_string().into() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(*hash, (found.clone(), Instant::now()));
        Ok(Some(found))
    }
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

/// Who may ask, as the route table says.
pub(super) fn access(request: &HttpRequest) -> Result<Access, Problem> {
    let access = request.extensions().get::<Access>().copied();
    access.ok_or_else(|| Problem::new(Code::Internal, "this route does not say who may ask"))
}

async fn authenticate(request: &HttpRequest) -> Result<Caller, Problem> {
    let Some(api) = request.app_data::<web::Data<Api>>() else {
        return Err(Problem::new(Code::Internal, "the hub is not set up"));
    };
    let header = only(request, AUTHORIZATION.as_str())?;
    let key = header.and_then(|value| value.to_str().ok()).and_then(bearer).ok_or_else(|| {
        Problem::new(Code::Unauthorized, "send a key as \"Authorization: Bearer <key>\"")
    })?;
    let hash = hash(key);
    let named = named_tenant(request)?;
    if api.keys.is_admin(&hash) {
        let tenant = named.unwrap_or_else(|| DEFAULT_TENANT.into());
        return Ok(Caller {
            tenant,
            key: ADMIN.into(),
            scopes: [Scope::Admin].into_iter().collect(),
        });
    }
    let Some(known) = api.keys.look_up(&hash, &api.store).await? else {
        return Err(Problem::new(Code::Unauthorized, "this key is not known here, or was revoked"));
    };
    match named {
        Some(other) if other != known.tenant => Err(Problem::new(
            Code::Forbidden,
            "this key speaks for its own tenant alone; leave Hookhub-Tenant out",
        )),
        _ => Ok(Caller { tenant: known.tenant, key: known.id, scopes: Scopes::of_a_tenant() }),
    }
}

/// The value of a header that may come once.
pub(super) fn only<'a>(
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
pub(super) fn named_tenant(request: &HttpRequest) -> Result<Option<Arc<str>>, Problem> {
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
