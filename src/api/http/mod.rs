//! What all handlers share of HTTP: bodies, queries, headers, request ids.

pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod cors;
pub(crate) mod early_errors;
pub(crate) mod fields;
pub(crate) mod headers;
pub(crate) mod idempotency;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod patterns;
pub(crate) mod query;
pub(crate) mod rate_limit_headers;
pub(crate) mod request_id;
pub(crate) mod waiting_head;
