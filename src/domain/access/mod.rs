//! Access as plain values: scopes, quotas, tokens, and entries of the audit log.

pub mod audit;
pub mod forwarded;
pub mod idempotency;
pub mod networks;
pub mod quota;
pub mod revocation;
pub mod scope;
pub mod stream_token;
pub mod token_bucket;
