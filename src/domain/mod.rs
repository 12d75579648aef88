//! The hub's words as plain values: no I/O, no clock, nothing from the layers above.

pub mod access;
pub mod delivery;
pub mod egress;
pub mod encryption;
pub mod event;
pub mod id;
pub mod position;
pub mod retention;
pub mod root_cause;
pub mod serde_text;
pub mod signing;
pub mod single_line;
pub mod subscription;
pub mod time;
