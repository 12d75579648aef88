//! Streams of events: Server-Sent Events and WebSocket, their tokens and connections.

pub(crate) mod connections;
pub(crate) mod sse;
pub(crate) mod tokens;
pub(crate) mod websocket;
pub(crate) mod websocket_command;
