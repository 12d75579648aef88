//! Subscriptions: the REST Hooks resource, its signing keys, its verification, and pulling from it.

mod change;
mod create;
mod definition_input;
mod delete;
mod pull;
pub(super) mod pull_cursor;
pub(super) mod read;
mod receiver_input;
pub(super) mod repeat;
mod signing_keys;
pub(super) mod start;
pub(super) mod verification;
mod verification_callback;

use actix_web::web;

use super::route::{PUBLIC, Route, SUBSCRIBE, delete, get, patch, post, put};

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        post("/v1/subscriptions", SUBSCRIBE, web::to(create::create)),
        get("/v1/subscriptions", SUBSCRIBE, web::to(read::list)),
        delete("/v1/subscriptions", SUBSCRIBE, web::to(delete::delete_by_body)),
        get("/v1/subscriptions/{id}", SUBSCRIBE, web::to(read::get)),
        patch("/v1/subscriptions/{id}", SUBSCRIBE, web::to(change::patch)),
        put("/v1/subscriptions/{id}", SUBSCRIBE, web::to(change::put)),
        delete("/v1/subscriptions/{id}", SUBSCRIBE, web::to(delete::delete)),
        post("/v1/subscriptions/{id}/pause", SUBSCRIBE, web::to(change::pause)),
        post("/v1/subscriptions/{id}/resume", SUBSCRIBE, web::to(change::resume)),
        post("/v1/subscriptions/{id}/rotate-secret", SUBSCRIBE, web::to(signing_keys::rotate)),
        get("/v1/subscriptions/{id}/public-key", SUBSCRIBE, web::to(signing_keys::public_key)),
        get("/v1/subscriptions/{id}/jwks.json", PUBLIC, web::to(signing_keys::jwks)),
        post("/v1/subscriptions/{id}/verify", SUBSCRIBE, web::to(verification::verify)),
    ];
    let verification = "/v1/subscriptions/{id}/verification";
    routes.push(post(verification, PUBLIC, web::to(verification_callback::confirm)));
    routes.push(get(verification, PUBLIC, web::to(verification_callback::confirm)));
    routes.extend(pull::routes());
    routes
}
