//! Clients that read the log by a cursor of their own: one reader serves short poll, long poll, SSE and WebSocket.
//!
//! Each HTTP worker thread has one [`Worker`]: it follows the tail once for all its clients, matches each event once
//! for all that want the same, and hands them shared bytes. A [`Reader`] that is not at the tail reads the log page by
//! page until it has caught up, and joins.

mod client;
mod filter;
mod frame;
pub(crate) mod presence;
mod reader;
pub(crate) mod resume;
mod worker;

pub(crate) use self::client::End;
pub(crate) use self::filter::{Filter, Source};
pub(crate) use self::reader::{Reader, Start, Step};
pub(crate) use self::worker::{Parts, Streams, Worker};
