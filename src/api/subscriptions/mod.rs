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

use super::route::{PUBLIC, Route, SUBSCRIBE, delete, get, patch, post, put, to_completion};

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        post("/v1/subscriptions", SUBSCRIBE, to_completion(create::create)),
        get("/v1/subscriptions", SUBSCRIBE, web::to(read::list)),
        delete("/v1/subscriptions", SUBSCRIBE, to_completion(delete::delete_by_body)),
        get("/v1/subscriptions/{id}", SUBSCRIBE, web::to(read::get)),
        patch("/v1/subscriptions/{id}", SUBSCRIBE, to_completion(change::patch)),
        put("/v1/subscriptions/{id}", SUBSCRIBE, to_completion(change::put)),
        delete("/v1/subscriptions/{id}", SUBSCRIBE, to_completion(delete::delete)),
        post("/v1/subscriptions/{id}/pause", SUBSCRIBE, to_completion(change::pause)),
        post("/v1/subscriptions/{id}/resume", SUBSCRIBE, to_completion(change::resume)),
        post(
            "/v1/subscriptions/{id}/rotate-secret",
            SUBSCRIBE,
            to_completion(signing_keys::rotate),
        ),
        get("/v1/subscriptions/{id}/public-key", SUBSCRIBE, web::to(signing_keys::public_key)),
        get("/v1/subscriptions/{id}/jwks.json", PUBLIC, web::to(signing_keys::jwks)),
        post("/v1/subscriptions/{id}/verify", SUBSCRIBE, to_completion(verification::verify)),
    ];
    let verification = "/v1/subscriptions/{id}/verification";
    routes.push(post(verification, PUBLIC, to_completion(verification_callback::confirm)));
    routes.push(get(verification, PUBLIC, web::to(verification_callback::confirm)));
    routes.extend(pull::routes());
    routes
}
