//! Every outgoing HTTP request of the hub: checked against the operator's rules, sent, and its response read within
//! limits. Only this module and `hookhub listen` know the HTTP client library. It knows nothing of deliveries.

mod client;
mod connecting;
mod failure;
mod message;
mod oauth_tokens;
mod pool;
mod resolver;
mod tls;
mod tunnel;
mod tunnel_client;

pub(crate) use self::client::EgressClient;
pub(crate) use self::failure::Failure;
pub(crate) use self::message::{Request, Response, secret_header};
pub(crate) use self::oauth_tokens::TokenCache;
pub(crate) use self::tls::BuildError;
