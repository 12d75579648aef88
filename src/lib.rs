//! hookhub: a self-hosted webhook subscription hub. One durable log, many cursors.
//!
//! The layers, downward only: `main -> hub -> { server -> api -> stream, dispatch } -> log -> store -> values`.

pub mod admin_key;
pub mod api;
pub mod config;
pub mod dispatch;
pub mod embedded;
pub mod hub;
pub mod listen;
pub mod log;
pub mod measures;
pub mod receive;
pub mod server;
pub mod store;
pub mod stream;
pub mod values;
