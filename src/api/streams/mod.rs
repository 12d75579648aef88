//! Streams of events: Server-Sent Events and WebSocket, their tokens and connections.

pub mod connections;
pub mod sse;
pub mod tokens;
pub mod websocket;
pub mod websocket_command;
