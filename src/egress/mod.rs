//! Every outgoing HTTP request of the hub: checked, resolved, sent, and its answer read within limits.

pub mod client;
pub mod connecting;
pub mod failure;
pub mod oauth_tokens;
pub mod pool;
pub mod resolver;
pub mod tunnel;
