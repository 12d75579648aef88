//! The route table's entries: path, method, handler, and the access rule, which is public or a scope of the caller's key.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpMessage as _, HttpRequest, Responder, web};

use super::http::completion::RunToCompletion;
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

/// One path and method.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: Method,
    pub(crate) access: Access,
    pub(crate) handler: actix_web::Route,
}

/// Creates a GET route, which serves HEAD too.
pub(crate) fn get(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    Route { path, method: Method::GET, access, handler }
}

/// The handler of a request that may change something. It runs to its end, also when the client disconnects.
pub(crate) struct ChangeHandler(actix_web::Route);

pub(crate) fn to_completion<F, Args>(handler: F) -> ChangeHandler
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    F::Future: 'static,
    Args: FromRequest + 'static,
{
    ChangeHandler(web::to(RunToCompletion(handler)))
}

pub(crate) fn post(path: &'static str, access: Access, handler: ChangeHandler) -> Route {
    Route { path, method: Method::POST, access, handler: handler.0 }
}

pub(crate) fn put(path: &'static str, access: Access, handler: ChangeHandler) -> Route {
    Route { path, method: Method::PUT, access, handler: handler.0 }
}

pub(crate) fn patch(path: &'static str, access: Access, handler: ChangeHandler) -> Route {
    Route { path, method: Method::PATCH, access, handler: handler.0 }
}

pub(crate) fn delete(path: &'static str, access: Access, handler: ChangeHandler) -> Route {
    Route { path, method: Method::DELETE, access, handler: handler.0 }
}
