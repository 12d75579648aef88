//! Routes for the hub's operator.

pub mod audit;
pub mod health;
pub mod keys;
pub mod metrics;
pub mod nodes;
pub mod tenants;
