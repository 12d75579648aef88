//! The access rule of a route: public, or a scope that the caller's key must have.

use actix_web::{HttpMessage as _, HttpRequest};

use crate::api::problem::{Code, Problem};
use crate::domain::access::scope::Scope;

/// The access rule of a route. The router stores it in the request's extensions, where the extractors enforce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// No key is needed.
    Public,
    /// The key needs this scope.
    Scope(Scope),
}

/// Any caller, without a key.
pub(crate) const PUBLIC: Access = Access::Public;
pub(crate) const PUBLISH: Access = Access::Scope(Scope::Publish);
pub(crate) const SUBSCRIBE: Access = Access::Scope(Scope::Subscribe);
pub(crate) const READ: Access = Access::Scope(Scope::Read);
pub(crate) const STREAM: Access = Access::Scope(Scope::Stream);
pub(crate) const ADMIN: Access = Access::Scope(Scope::Admin);

/// Returns the access rule of the route that a request matched. A request without one is answered 500, never served.
pub(crate) fn access(request: &HttpRequest) -> Result<Access, Problem> {
    let access = request.extensions().get::<Access>().copied();
    access.ok_or_else(|| Problem::new(Code::Internal, "this route has no access rule"))
}
