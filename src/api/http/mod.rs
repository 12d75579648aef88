//! HTTP as all resources share it: request inputs, limits, lists, idempotency, request ids.

pub(crate) mod body;
pub(crate) mod completion;
pub(crate) mod cors;
pub(crate) mod early_errors;
pub(crate) mod fields;
pub(crate) mod headers;
pub(crate) mod idempotency;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod middleware;
pub(crate) mod query;
pub(crate) mod rate_limit;
pub(crate) mod rate_limit_headers;
