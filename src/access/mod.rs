//! API keys, quotas and idempotency claims on this node.

pub(crate) mod idempotency;
pub(crate) mod keys;
pub(crate) mod quotas;
