//! What all handlers share of HTTP: bodies, queries, headers, request ids.

pub mod body;
pub mod client_address;
pub mod cors;
pub mod early_errors;
pub mod fields;
pub mod headers;
pub mod idempotency;
pub mod json;
pub mod limits;
pub mod query;
pub mod request_id;
pub mod waiting_head;
