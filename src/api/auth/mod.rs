//! Authentication and authorisation of requests.

pub(crate) mod caller;
pub(crate) mod reader;
pub(crate) mod visibility;
