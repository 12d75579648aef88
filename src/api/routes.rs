//! The route table: each path and method with who may ask for it and what answers.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, Resource, Route, guard, web};

use super::auth::access::Access;
use super::deliveries::replays;
use super::events::explain;
use super::operator::{audit, health, keys, metrics, nodes, tenants};
use super::problem::Problem;
use super::streams::{connections, sse, tokens, websocket};
use super::subscriptions::{pull, signing, verification, verification_answer};
use super::{deliveries, events, openapi, subscriptions};
use crate::domain::access::scope::Scope;

const PUBLIC: Access = Access::Public;
const PUBLISH: Access = Access::Scope(Scope::Publish);
const SUBSCRIBE: Access = Access::Scope(Scope::Subscribe);
const READ: Access = Access::Scope(Scope::Read);
const STREAM: Access = Access::Scope(Scope::Stream);
const ADMIN: Access = Access::Scope(Scope::Admin);

/// One path and method. GET stands for HEAD too.
pub(crate) struct Entry {
    pub(crate) path: &'static str,
    pub(crate) method: Method,
    pub(crate) access: Access,
    answer: Route,
}

fn entry(method: Method, path: &'static str, access: Access, answer: Route) -> Entry {
    Entry { path, method, access, answer }
}

fn get(path: &'static str, access: Access, answer: Route) -> Entry {
    entry(Method::GET, path, access, answer)
}

fn post(path: &'static str, access: Access, answer: Route) -> Entry {
    entry(Method::POST, path, access, answer)
}

fn delete(path: &'static str, access: Access, answer: Route) -> Entry {
    entry(Method::DELETE, path, access, answer)
}

/// All routes; those of one path stand together.
pub(crate) fn table() -> Vec<Entry> {
    let parts = [
        event_routes(),
        stream_routes(),
        subscription_routes(),
        pull_routes(),
        replay_routes(),
        operator_routes(),
    ];
    parts.into_iter().flatten().collect()
}

/// Events, published and read, and what came of them.
fn event_routes() -> Vec<Entry> {
    vec![
        post("/v1/events", PUBLISH, web::to(events::publish)),
        get("/v1/events", READ, web::to(events::list)),
        get("/v1/events/{id}", READ, web::to(events::get)),
        get("/v1/events/{id}/explain", READ, web::to(explain::explain)),
        get("/v1/events/{id}/deliveries", READ, web::to(deliveries::of_event)),
        get("/v1/attempts", READ, web::to(deliveries::attempts)),
        post("/v1/deliveries/{subscription}/{event}/retry", SUBSCRIBE, web::to(deliveries::retry)),
    ]
}

/// Streams, their tokens, and who holds one open.
fn stream_routes() -> Vec<Entry> {
    let streamed = web::to(sse::stream).wrap(from_fn(sse::have_come_back));
    vec![
        get("/v1/stream", STREAM, streamed),
        get("/v1/ws", STREAM, web::to(websocket::ws)),
        post("/v1/stream-tokens", STREAM, web::to(tokens::create)),
        get("/v1/connections", STREAM, web::to(connections::list)),
    ]
}

/// The REST Hooks resource.
fn subscription_routes() -> Vec<Entry> {
    let (all, one) = ("/v1/subscriptions", "/v1/subscriptions/{id}");
    vec![
        post(all, SUBSCRIBE, web::to(subscriptions::create)),
        get(all, SUBSCRIBE, web::to(subscriptions::list)),
        delete(all, SUBSCRIBE, web::to(subscriptions::delete_by_body)),
        get(one, SUBSCRIBE, web::to(subscriptions::get)),
        entry(Method::PATCH, one, SUBSCRIBE, web::to(subscriptions::patch)),
        entry(Method::PUT, one, SUBSCRIBE, web::to(subscriptions::put)),
        delete(one, SUBSCRIBE, web::to(subscriptions::delete)),
        post("/v1/subscriptions/{id}/pause", SUBSCRIBE, web::to(subscriptions::pause)),
        post("/v1/subscriptions/{id}/resume", SUBSCRIBE, web::to(subscriptions::resume)),
        post("/v1/subscriptions/{id}/rotate-secret", SUBSCRIBE, web::to(signing::rotate)),
        get("/v1/subscriptions/{id}/public-key", SUBSCRIBE, web::to(signing::public_key)),
        get("/v1/subscriptions/{id}/jwks.json", PUBLIC, web::to(signing::jwks)),
        post("/v1/subscriptions/{id}/verify", SUBSCRIBE, web::to(verification::verify)),
        post("/v1/subscriptions/{id}/verification", PUBLIC, web::to(verification_answer::give)),
        get("/v1/subscriptions/{id}/verification", PUBLIC, web::to(verification_answer::give)),
        post("/v1/subscriptions/{id}/test", SUBSCRIBE, web::to(deliveries::test)),
        get("/v1/subscriptions/{id}/deliveries", SUBSCRIBE, web::to(deliveries::of_subscription)),
    ]
}

/// Pulling from a subscription.
fn pull_routes() -> Vec<Entry> {
    let streamed = web::to(pull::stream).wrap(from_fn(sse::have_come_back));
    vec![
        get("/v1/subscriptions/{id}/events", READ, web::to(pull::events)),
        get("/v1/subscriptions/{id}/stream", STREAM, streamed),
        get("/v1/subscriptions/{id}/ws", STREAM, web::to(pull::ws)),
        post("/v1/subscriptions/{id}/ack", SUBSCRIBE, web::to(pull::ack)),
        post("/v1/subscriptions/{id}/seek", SUBSCRIBE, web::to(pull::seek)),
    ]
}

/// Replaying to a subscription.
fn replay_routes() -> Vec<Entry> {
    vec![
        post("/v1/subscriptions/{id}/replay", SUBSCRIBE, web::to(replays::create)),
        get("/v1/subscriptions/{id}/replays", SUBSCRIBE, web::to(replays::list)),
        get("/v1/subscriptions/{id}/replays/{replay}", SUBSCRIBE, web::to(replays::get)),
        post("/v1/subscriptions/{id}/replays/{replay}/cancel", SUBSCRIBE, web::to(replays::cancel)),
    ]
}

/// Running the hub.
fn operator_routes() -> Vec<Entry> {
    vec![
        get("/healthz", PUBLIC, web::to(health::healthz)),
        get("/readyz", PUBLIC, web::to(health::readyz)),
        get("/metrics", PUBLIC, web::to(metrics::metrics)),
        get("/openapi.json", PUBLIC, web::to(openapi::serve)),
        get("/docs", PUBLIC, web::to(openapi::page::page)),
        get("/docs/{file}", PUBLIC, web::to(openapi::page::file)),
        get("/v1/audit", ADMIN, web::to(audit::list)),
        get("/v1/tenants", ADMIN, web::to(tenants::list)),
        get("/v1/tenants/{name}", ADMIN, web::to(tenants::get)),
        entry(Method::PUT, "/v1/tenants/{name}", ADMIN, web::to(tenants::put)),
        entry(Method::PATCH, "/v1/tenants/{name}", ADMIN, web::to(tenants::patch)),
        delete("/v1/tenants/{name}", ADMIN, web::to(tenants::delete)),
        get("/v1/nodes", ADMIN, web::to(nodes::list)),
        post("/v1/keys", ADMIN, web::to(keys::create)),
        get("/v1/keys", ADMIN, web::to(keys::list)),
        get("/v1/keys/{id}", ADMIN, web::to(keys::get)),
        delete("/v1/keys/{id}", ADMIN, web::to(keys::revoke)),
    ]
}

/// Puts the table into force.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let mut entries = table().into_iter().peekable();
    while let Some(first) = entries.next() {
        let path = first.path;
        let mut same = vec![first];
        while let Some(next) = entries.next_if(|next| next.path == path) {
            same.push(next);
        }
        config.service(resource(path, same));
    }
    config.default_service(web::to(no_such_path));
}

/// A path with its methods; others are answered 405 with what is allowed. HEAD is answered as GET is.
fn resource(path: &str, entries: Vec<Entry>) -> Resource {
    let name = |method: &Method| {
        if method == Method::GET { "GET, HEAD".to_owned() } else { method.to_string() }
    };
    let allow = entries.iter().map(|entry| name(&entry.method)).collect::<Vec<_>>().join(", ");
    let refuse = move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, Problem>(Problem::method_not_allowed(&allow)) }
    };
    let resource = web::resource(path).default_service(web::to(refuse));
    entries.into_iter().fold(resource, |resource, entry| {
        let Entry { method, access, answer, .. } = entry;
        resource.route(answer.guard(guard::fn_guard(move |context| {
            let asked = &context.head().method;
            let is_meant = *asked == method || (*asked == Method::HEAD && method == Method::GET);
            if is_meant {
                context.req_data_mut().insert(access);
            }
            is_meant
        })))
    })
}

async fn no_such_path() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("path; the API is under /v1"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_route_stands_once_and_those_of_one_path_together() {
        let (mut routes, mut paths, mut last) = (HashSet::new(), HashSet::new(), "");
        for entry in table() {
            assert!(routes.insert((entry.path, entry.method.clone())), "{}", entry.path);
            assert!(entry.path == last || paths.insert(entry.path), "{} is torn", entry.path);
            last = entry.path;
        }
    }

    #[test]
    fn only_these_are_public() {
        let public = table().into_iter().filter(|entry| entry.access == Access::Public);
        let paths: HashSet<_> = public.map(|entry| entry.path).collect();
        let known = [
            "/v1/subscriptions/{id}/jwks.json", // public keys are for everyone
            "/v1/subscriptions/{id}/verification", // a receiver has no key, but what the handshake gave it
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
