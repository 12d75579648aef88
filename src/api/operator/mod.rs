//! Routes for the hub's operator.

pub(crate) mod audit;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod nodes;
pub(crate) mod tenants;
