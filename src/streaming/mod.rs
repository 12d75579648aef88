//! Clients that read the log by their own cursor: one [`Reader`] serves short poll, long poll, SSE and WebSocket.
//!
//! Each HTTP worker thread has one [`Worker`]. It follows the tail for all its clients, matches each event once per group
//! of clients that read the same, and gives them shared bytes. A reader that is not at the tail reads the log page by
//! page until it has caught up, and then joins its group. docs/internals/streaming.md describes the parts.

mod client;
mod filter;
mod frame;
pub(crate) mod presence;
mod reader;
pub(crate) mod resume;
mod worker;

pub(crate) use self::client::StreamEnd;
pub(crate) use self::filter::{Filter, Source};
pub(crate) use self::reader::{Reader, ReaderStart, ReaderStep};
pub(crate) use self::worker::{Parts, Streams, Worker};
