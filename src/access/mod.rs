//! Keys, quotas and idempotency keys in force on this node.

pub(crate) mod idempotency;
pub(crate) mod keys;
pub(crate) mod quotas;
