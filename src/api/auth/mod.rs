//! Authentication and authorisation of requests.

pub mod caller;
pub mod reader;
pub mod visibility;
