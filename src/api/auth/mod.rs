//! Authentication and authorisation of requests.

pub(crate) mod access;
pub(crate) mod admin_key;
pub(crate) mod caller;
pub(crate) mod reader;
pub(crate) mod visibility;
