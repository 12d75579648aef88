//! hookhub: a self-hosted webhook subscription hub. One durable log, many cursors.
//!
//! The layers, downward only:
//! `main -> hub -> { server -> api -> stream, dispatch } -> log -> keys -> store -> values`.

pub mod access;
pub mod api;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod egress;
pub mod embedded;
pub mod hub;
pub mod key_files;
pub mod log;
pub mod maintenance;
pub mod metrics;
pub mod server;
pub mod store;
pub mod streaming;
pub mod tools;
