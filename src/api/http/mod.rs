//! HTTP as all resources share it: request inputs, limits, lists, idempotency, request ids.

pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod cors;
pub(crate) mod early_errors;
pub(crate) mod fields;
pub(crate) mod headers;
mod http10;
pub(crate) mod idempotency;
pub(crate) mod input;
pub(crate) mod json;
mod lean_head;
mod limits;
pub(crate) mod list;
pub(crate) mod patterns;
pub(crate) mod query;
pub(crate) mod rate_limit;
pub(crate) mod rate_limit_headers;
pub(crate) mod request_id;
