//! The context of an authorised request, and the extractor that makes it.

use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use serde_json::Value;
use uuid::Uuid;

use super::caller::Caller;
use super::read_access::ReadAccess;
use crate::access::keys::Operation;
use crate::api::http::headers::client_address;
use crate::api::http::input::{Input, NoQuery};
use crate::api::http::middleware::RequestId;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::{Api, api};
use crate::domain::access::audit::{Action, Actor, AuditEntry};
use crate::domain::access::networks::client_network;
use crate::domain::single_line::SingleLine;
use crate::domain::time::UnixMillis;
use crate::streaming::presence::ConnectionOwner;

/// The shared state, the caller and the request.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) api: web::Data<Api>,
    pub(crate) caller: Caller,
    pub(crate) request: HttpRequest,
    /// While it exists, a revocation of the caller's key is not confirmed. `None` for a request that only reads.
    pub(crate) operation: Option<Operation>,
}

impl Context {
    pub(crate) fn actor(&self) -> Actor {
        actor(&self.caller.key.name, &self.request)
    }

    /// Creates an audit entry about `action` on `target`, with this request as its author. Does not store the entry.
    pub(crate) fn audit_entry(
        &self,
        tenant: &str,
        action: &str,
        target: &impl ToString,
    ) -> AuditEntry {
        let (now, token) = (UnixMillis::now(), Uuid::new_v4());
        let action = Action { tenant, name: action, target: target.to_string() };
        AuditEntry::new(now, token, &self.actor(), action)
    }

    /// Stores an audit entry about `action` on `target`. Called before an action that is not a change of a row, such
    /// as a replay, so that the audit log is never incomplete.
    pub(crate) async fn audit(
        &self,
        action: &str,
        target: &impl ToString,
        details: Value,
    ) -> ApiResult<()> {
        let entry = self.audit_entry(&self.caller.tenant, action, target);
        Ok(self.api.store.insert_audit(&entry.with(None, Some(details))).await?)
    }

    /// The tenant, key and network under which the connection limits count the caller.
    pub(crate) fn owner(&self) -> ConnectionOwner {
        ConnectionOwner {
            tenant: Arc::clone(&self.caller.tenant),
            key: Arc::clone(&self.caller.key),
            network: client_network(client_address(&self.request)),
        }
    }
}

/// The author of a change for the audit log. `key` is the name of the key.
pub(crate) fn actor(key: &str, request: &HttpRequest) -> Actor {
    let user_agent = request.headers().get(USER_AGENT);
    Actor {
        key: key.to_owned(),
        address: Some(client_address(request).to_string()),
        user_agent: user_agent
            .map(|value| SingleLine(&String::from_utf8_lossy(value.as_bytes())).to_string()),
        request_id: request.extensions().get::<RequestId>().map(ToString::to_string),
    }
}

/// Extracts the context and the input of a request. The caller is authorised first: 401 and 403 win over errors in the
/// query and the body, which is not read before. Once the body has arrived, the key is checked again: 401 if it was
/// revoked or has expired meanwhile.
#[derive(Debug)]
pub(crate) struct Authorized<I = NoQuery>(pub(crate) Context, pub(crate) I);

impl<I: Input> FromRequest for Authorized<I> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = ApiResult<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = take_payload::<I>(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let caller = Caller::authorize(&request).await?;
            let input = I::read(&request, payload?).await?;
            let api = web::Data::clone(api(&request)?);
            let operation = if request.method().is_safe() {
                None
            } else {
                Some(caller.begin_operation(&api).await?)
            };
            Ok(Self(Context { api, caller, request, operation }, input))
        })
    }
}

/// Takes the payload if the input type `I` reads a body; else leaves it to actix and returns an empty one.
fn take_payload<I: Input>(request: &HttpRequest, payload: &mut Payload) -> ApiResult<web::Payload> {
    let mut payload = if I::HAS_BODY { payload.take() } else { Payload::None };
    let extracted = web::Payload::from_request(request, &mut payload).into_inner();
    extracted.map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// [`Authorized`] for the endpoints that also accept a stream token instead of a key.
#[derive(Debug)]
pub(crate) struct AuthorizedReader<I>(pub(crate) Context, pub(crate) ReadAccess, pub(crate) I);

impl<I: Input> FromRequest for AuthorizedReader<I> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = ApiResult<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = take_payload::<I>(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let access = ReadAccess::authorize(&request).await?;
            let input = I::read(&request, payload?).await?;
            let api = web::Data::clone(api(&request)?);
            let caller = access.caller.clone();
            Ok(Self(Context { api, caller, request, operation: None }, access, input))
        })
    }
}
