//! The route table's entries: path, method, handler, and the access rule, which is public or a scope of the caller's key.

use actix_web::http::Method;
use actix_web::{HttpMessage as _, HttpRequest};

use super::problem::{ApiResult, Code, Problem};
use crate::domain::access::scope::Scope;

/// The access rule of a route. The router puts it into the extensions of each request. The extractors of `auth::context`
/// read it from there and enforce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    Scope(Scope),
}

/// Any caller, without a key.
pub(crate) const PUBLIC: Access = Access::Public;
pub(crate) const PUBLISH: Access = Access::Scope(Scope::Publish);
pub(crate) const SUBSCRIBE: Access = Access::Scope(Scope::Subscribe);
pub(crate) const READ: Access = Access::Scope(Scope::Read);
pub(crate) const STREAM: Access = Access::Scope(Scope::Stream);
pub(crate) const ADMIN: Access = Access::Scope(Scope::Admin);

/// The access rule of the matched route. 500 if the route has none, so that a request is never served unchecked.
pub(crate) fn access(request: &HttpRequest) -> ApiResult<Access> {
    let access = request.extensions().get::<Access>().copied();
    access.ok_or_else(|| Problem::new(Code::Internal, "this route has no access rule"))
}

/// One path and method. A GET route serves HEAD too.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: Method,
    pub(crate) access: Access,
    pub(crate) handler: actix_web::Route,
}

/// Creates a route of the API. The extractors of `handler` enforce the rule `access`.
pub(crate) fn route(
    method: Method,
    path: &'static str,
    access: Access,
    handler: actix_web::Route,
) -> Route {
    Route { path, method, access, handler }
}

/// The route also serves HEAD.
pub(crate) fn get(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::GET, path, access, handler)
}

pub(crate) fn post(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::POST, path, access, handler)
}

pub(crate) fn put(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::PUT, path, access, handler)
}

pub(crate) fn patch(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::PATCH, path, access, handler)
}

pub(crate) fn delete(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::DELETE, path, access, handler)
}
