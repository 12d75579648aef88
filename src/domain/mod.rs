//! The vocabulary and the rules of the hub as plain values. The domain does no I/O and imports no other part of the
//! hub.

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

/// Replaces the value of a header, a password, a token or a key in texts that the hub shows.
pub const MASK: &str = "***";
