//! The hub's words as plain values: no I/O, no clock, nothing from the layers above.

mod as_id;
pub mod audit;
pub mod callback_url;
pub mod cause;
pub mod event;
pub mod event_type;
pub mod expiry;
pub mod forwarded;
pub mod id;
pub mod json_pointer;
pub mod matcher;
pub mod networks;
pub mod one_line;
pub mod outcome;
pub mod position;
pub mod request;
pub mod retention;
pub mod retry;
pub mod retry_after;
pub mod scope;
pub mod signature;
pub mod stream_token;
pub mod subscription;
pub mod subscription_view;
pub mod target;
pub mod time;
