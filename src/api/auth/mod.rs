//! Authentication and authorisation of requests.

pub(crate) mod admin_key;
pub(crate) mod caller;
pub(crate) mod context;
pub(crate) mod read_access;
pub(crate) mod visibility;
