//! The HTTP API. A handler parses the request, authorises its caller, makes one call and answers.

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
pub(crate) use self::http::middleware::assign_request_id;
pub(crate) use self::routes::routes;
pub(crate) use self::state::{Api, Limits, Parts, Secrets};
