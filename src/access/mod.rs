//! Keys, quotas and idempotency keys in force on this node.

pub mod idempotency;
pub mod keys;
pub mod quotas;
