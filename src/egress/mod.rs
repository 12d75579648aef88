//! Every outgoing HTTP request of the hub: checked, resolved, sent, and its answer read within limits.

pub(crate) mod client;
pub(crate) mod connecting;
pub(crate) mod failure;
pub(crate) mod oauth_tokens;
pub(crate) mod pool;
pub(crate) mod resolver;
pub(crate) mod tunnel;
