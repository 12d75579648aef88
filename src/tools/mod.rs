//! The command-line tools for developers: `hookhub listen` and `hookhub receive`.

pub mod listen;
pub mod receive;
