//! The HTTP API. An extractor authorises the caller and reads the input of a request; the handler then does its work.

mod auth;
mod deliveries;
mod events;
mod http;
mod openapi;
mod operator;
mod problem;
mod route;
mod routes;
mod state;
mod streams;
mod subscriptions;

pub(crate) use self::http::cors::allow_origins;
pub(crate) use self::http::early_errors::{late_head, too_many_from_one_address};
pub(crate) use self::http::middleware::request_middleware;
pub(crate) use self::routes::configure_routes;
pub(crate) use self::state::{Api, ApiSettings, Parts, Secrets};
