//! The hub's words as plain values: no I/O, no clock, nothing from the layers above.

pub mod access;
pub mod as_text;
pub mod delivery;
pub mod egress;
pub mod encryption;
pub mod error_cause;
pub mod event;
pub mod id;
pub mod one_line;
pub mod position;
pub mod retention;
pub mod signing;
pub mod subscription;
pub mod time;
