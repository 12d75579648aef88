//! hookhub: a self-hosted webhook subscription hub. One durable log, many cursors.

mod access;
mod api;
pub mod config;
mod delivery;
pub mod domain;
mod egress;
pub mod embedded;
pub mod hub;
mod key_files;
pub mod log;
mod maintenance;
mod metrics;
mod server;
pub mod store;
mod streaming;
pub mod tools;
