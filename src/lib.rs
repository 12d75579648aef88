//! hookhub: a self-hosted webhook subscription hub. One durable log, many cursors.
//!
//! The layers, downward only:
//! `main -> hub -> { server -> api -> stream, dispatch } -> log -> keys -> store -> values`.

pub mod admin_key;
pub mod api;
pub mod config;
pub mod dispatch;
pub mod embedded;
pub mod hub;
mod key_file;
pub mod keys;
pub mod listen;
pub mod log;
pub mod master_key;
pub mod measures;
pub mod quotas;
pub mod receive;
pub mod server;
pub mod store;
pub mod stream;
pub mod values;
