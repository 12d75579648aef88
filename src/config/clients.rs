//! Settings of client connections: proxies, connection limits and timeouts.

use std::time::Duration;

use clap::Args;

use super::parse::{Seconds, networks, number, proxy_header};
use crate::domain::access::forwarded::{ProxyHeader, TrustedProxies};
use crate::domain::access::networks::Networks;
use crate::domain::access::quota::StreamLimits;

/// The maximum number of streams and waiting polls on a node, unless the operator sets another.
pub(super) const DEFAULT_MAX_STREAMS: usize = 16_384;
const MAX_COUNT: usize = 1_000_000;

/// The time a client has for each part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// For the head of a request.
    pub head: Duration,
    /// For the body of a request, and for a message on a WebSocket.
    pub body: Duration,
    /// Between two requests on a connection.
    pub idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // Proxies usually keep idle connections for 60 s. A longer timeout makes the proxy close first, never the hub.
        Self { head: seconds(10), body: seconds(30), idle: seconds(75) }
    }
}

#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// Streams (SSE, WebSocket) and waiting polls open at once on this node. Each takes an open file
    #[arg(long, env = "HOOKHUB_MAX_STREAMS", value_name = "COUNT",
          default_value_t = DEFAULT_MAX_STREAMS, value_parser = number::<usize>(1..=MAX_COUNT))]
    max_streams: usize,

    /// Streams and waiting polls open at once with one key. Limited only by the node unless set
    #[arg(long, env = "HOOKHUB_MAX_STREAMS_PER_KEY", value_name = "COUNT",
          value_parser = number::<usize>(1..=MAX_COUNT))]
    max_streams_per_key: Option<usize>,

    /// Streams and waiting polls open at once from one IPv4 address or IPv6 /64. Limited only by the node unless set
    #[arg(long, env = "HOOKHUB_MAX_STREAMS_PER_ADDRESS", value_name = "COUNT",
          value_parser = number::<usize>(1..=MAX_COUNT))]
    max_streams_per_address: Option<usize>,

    /// Connections, streams among them, open at once from one IPv4 address or IPv6 /64. Trusted proxies are exempt.
    /// Unlimited unless set
    #[arg(long, env = "HOOKHUB_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT",
          value_parser = number::<usize>(1..=MAX_COUNT))]
    max_connections_per_address: Option<usize>,

    /// Networks of the reverse proxies whose header with the client's address is trusted, e.g. 10.0.0.0/8. None unless set
    #[arg(long, env = "HOOKHUB_TRUSTED_PROXIES", value_name = "CIDR,…", value_parser = networks)]
    trusted_proxies: Option<Networks>,

    /// Header in which trusted proxies pass the client's address: x-forwarded-for or forwarded
    #[arg(long, env = "HOOKHUB_PROXY_HEADER", value_name = "HEADER",
          default_value = ProxyHeader::default().name(), value_parser = proxy_header)]
    proxy_header: ProxyHeader,

    /// Seconds that a client may take to send the head of a request
    #[arg(long, env = "HOOKHUB_HEAD_DEADLINE_S", value_name = "SECONDS",
          default_value_t = Seconds(ClientTimeouts::default().head))]
    head_deadline_s: Seconds,

    /// Seconds that a client may take to send a request body or a WebSocket message
    #[arg(long, env = "HOOKHUB_BODY_DEADLINE_S", value_name = "SECONDS",
          default_value_t = Seconds(ClientTimeouts::default().body))]
    body_deadline_s: Seconds,

    /// Seconds that a connection may be idle between requests
    #[arg(long, env = "HOOKHUB_IDLE_DEADLINE_S", value_name = "SECONDS",
          default_value_t = Seconds(ClientTimeouts::default().idle))]
    idle_deadline_s: Seconds,
}

impl ClientArgs {
    /// Returns the limits of open streams; a limit per key or address that is not set equals the limit of the node.
    pub(super) fn stream_limits(&self) -> StreamLimits {
        StreamLimits {
            per_node: self.max_streams,
            per_key: self.max_streams_per_key.unwrap_or(self.max_streams),
            per_address: self.max_streams_per_address.unwrap_or(self.max_streams),
        }
    }

    /// Returns the limit of connections from one address; `usize::MAX` if it is not set.
    pub(super) fn max_connections_per_address(&self) -> usize {
        self.max_connections_per_address.unwrap_or(usize::MAX)
    }

    pub(super) fn timeouts(&self) -> ClientTimeouts {
        ClientTimeouts {
            head: self.head_deadline_s.0,
            body: self.body_deadline_s.0,
            idle: self.idle_deadline_s.0,
        }
    }

    pub(super) fn trusted_proxies(&self) -> TrustedProxies {
        TrustedProxies {
            networks: self.trusted_proxies.clone().unwrap_or_default(),
            header: self.proxy_header,
        }
    }
}
