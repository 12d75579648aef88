//! The route table of the whole API, and how actix serves it.

use actix_web::http::Method;
use actix_web::{HttpResponse, Resource, guard, web};

use super::problem::{ApiResult, Problem};
use super::route::Route;
use super::{deliveries, events, openapi, operator, streams, subscriptions};

/// Returns the routes of the whole API. The routes of one path are adjacent.
pub(crate) fn table() -> Vec<Route> {
    let resources = [
        events::routes(),
        deliveries::routes(),
        streams::routes(),
        subscriptions::routes(),
        operator::routes(),
        openapi::routes(),
    ];
    resources.into_iter().flatten().collect()
}

/// Registers every route of the table with actix. Any other path gets a 404.
pub(crate) fn configure_routes(config: &mut web::ServiceConfig) {
    let mut routes = table().into_iter().peekable();
    while let Some(first) = routes.next() {
        let path = first.path;
        let mut same_path = vec![first];
        while let Some(next) = routes.next_if(|next| next.path == path) {
            same_path.push(next);
        }
        config.service(resource(path, same_path));
    }
    config.default_service(web::to(no_such_path));
}

/// Creates the actix resource for one path. A HEAD request goes to the route of GET. A method without a route gets a 405
/// with `Allow`.
fn resource(path: &str, routes: Vec<Route>) -> Resource {
    let name = |method: &Method| {
        if method == Method::GET { "GET, HEAD".to_owned() } else { method.to_string() }
    };
    let allow = routes.iter().map(|route| name(&route.method)).collect::<Vec<_>>().join(", ");
    let refuse = move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, Problem>(Problem::method_not_allowed(&allow)) }
    };
    let resource = web::resource(path).default_service(web::to(refuse));
    routes.into_iter().fold(resource, |resource, route| {
        let Route { method, access, handler, .. } = route;
        resource.route(handler.guard(guard::fn_guard(move |context| {
            let requested = &context.head().method;
            let matches =
                *requested == method || (*requested == Method::HEAD && method == Method::GET);
            if matches {
                context.req_data_mut().insert(access);
            }
            matches
        })))
    })
}

async fn no_such_path() -> ApiResult {
    Err(Problem::not_found("path; all paths of the API begin with /v1"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::api::route::Access;

    #[test]
    fn each_route_is_listed_once_and_the_routes_of_a_path_are_adjacent() {
        let (mut seen, mut paths, mut last) = (HashSet::new(), HashSet::new(), "");
        for route in table() {
            let path = route.path;
            assert!(seen.insert((path, route.method)), "{path} is listed twice");
            assert!(path == last || paths.insert(path), "the routes of {path} are not adjacent");
            last = path;
        }
    }

    #[test]
    fn only_the_listed_paths_are_public() {
        let public = table().into_iter().filter(|route| route.access == Access::Public);
        let paths: HashSet<_> = public.map(|route| route.path).collect();
        let known = [
            "/v1/subscriptions/{id}/jwks.json",    // public keys are public
            "/v1/subscriptions/{id}/verification", // a receiver authenticates with what the verification request gave it
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/docs/{file}",
        ];
        assert_eq!(paths, HashSet::from(known));
    }
}
