//! The rules of outgoing requests as values: where they may go, and how they authenticate.

pub mod callback_url;
pub mod origin;
pub mod policy;
pub mod proxy;
pub mod receiver_auth;
pub mod receiver_tls;
pub mod special_addresses;
pub mod target_list;
