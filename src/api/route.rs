//! One entry of the route table: path, method, access rule and handler.

use actix_web::http::Method;

use super::auth::access::Access;

/// One path and method. A GET route serves HEAD too.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: Method,
    pub(crate) access: Access,
    pub(crate) handler: actix_web::Route,
}

/// Creates an entry of the route table. `access` is the rule that the router enforces for `handler`.
pub(crate) fn route(
    method: Method,
    path: &'static str,
    access: Access,
    handler: actix_web::Route,
) -> Route {
    Route { path, method, access, handler }
}

/// Creates an entry for GET. The route serves HEAD too.
pub(crate) fn get(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::GET, path, access, handler)
}

/// Creates an entry for POST.
pub(crate) fn post(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::POST, path, access, handler)
}

/// Creates an entry for PUT.
pub(crate) fn put(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::PUT, path, access, handler)
}

/// Creates an entry for PATCH.
pub(crate) fn patch(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::PATCH, path, access, handler)
}

/// Creates an entry for DELETE.
pub(crate) fn delete(path: &'static str, access: Access, handler: actix_web::Route) -> Route {
    route(Method::DELETE, path, access, handler)
}
