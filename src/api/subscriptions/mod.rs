//! Subscriptions: the REST Hooks resource, its signing keys, its verification, and pulling from it.

mod change;
mod create;
mod definition_input;
mod delete;
pub(super) mod find;
mod get;
mod headers_input;
mod list;
mod public_keys;
pub(super) mod pull;
mod receiver_input;
pub(super) mod repeat;
mod rotate_secret;
pub(super) mod start;
mod status;
mod update;
mod url_input;
pub(super) mod verification;
mod verification_callback;
mod verify;

use actix_web::web;

use super::auth::access::{PUBLIC, SUBSCRIBE};
use super::route::{Route, delete, get, patch, post, put};

/// Returns the routes of subscriptions.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        post("/v1/subscriptions", SUBSCRIBE, web::to(create::create)),
        get("/v1/subscriptions", SUBSCRIBE, web::to(list::list)),
        delete("/v1/subscriptions", SUBSCRIBE, web::to(delete::delete_by_body)),
        get("/v1/subscriptions/{id}", SUBSCRIBE, web::to(get::get)),
        patch("/v1/subscriptions/{id}", SUBSCRIBE, web::to(update::patch)),
        put("/v1/subscriptions/{id}", SUBSCRIBE, web::to(update::put)),
        delete("/v1/subscriptions/{id}", SUBSCRIBE, web::to(delete::delete)),
        post("/v1/subscriptions/{id}/pause", SUBSCRIBE, web::to(status::pause)),
        post("/v1/subscriptions/{id}/resume", SUBSCRIBE, web::to(status::resume)),
        post("/v1/subscriptions/{id}/rotate-secret", SUBSCRIBE, web::to(rotate_secret::rotate)),
        get("/v1/subscriptions/{id}/public-key", SUBSCRIBE, web::to(public_keys::public_key)),
        get("/v1/subscriptions/{id}/jwks.json", PUBLIC, web::to(public_keys::jwks)),
        post("/v1/subscriptions/{id}/verify", SUBSCRIBE, web::to(verify::verify)),
    ];
    let verification = "/v1/subscriptions/{id}/verification";
    routes.push(post(verification, PUBLIC, web::to(verification_callback::confirm)));
    routes.push(get(verification, PUBLIC, web::to(verification_callback::confirm)));
    routes.extend(pull::routes());
    routes
}
