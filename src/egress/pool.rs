//! The hub's HTTP clients: one pair for most subscriptions, and one pair for each set of TLS settings that a
//! subscription brings. No two pairs share a connection.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::connecting::{
    CONNECT_TIMEOUT, IDLE_TIMEOUT, MAX_IDLE_PER_HOST, RecordConnecting, USER_AGENT,
    detect_connecting,
};
use super::failure::Failure;
use super::message::{Request, Response};
use super::resolver::GuardedResolver;
use super::tls::{BuildError, TlsConfigs};
use super::tunnel_client::TunnelClient;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::proxy::EgressProxy;
use crate::domain::egress::receiver_tls::ReceiverTls;

/// Client pairs kept for subscriptions with TLS settings of their own. The least recently used one is dropped first.
const MAX_CUSTOM_PAIRS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// The HTTP clients of a node.
#[derive(Debug)]
pub(super) struct HttpClients {
    standard: ClientPair,
    /// By the fingerprint of the TLS settings.
    custom: Mutex<LruCache<[u8; 32], ClientPair>>,
    factory: ClientFactory,
}

impl HttpClients {
    /// Connects through `proxy`, or without one directly to the addresses that `resolver` allows.
    pub(super) fn new(
        resolver: GuardedResolver,
        proxy: Option<EgressProxy>,
    ) -> Result<Self, BuildError> {
        let factory = ClientFactory {
            tls: TlsConfigs::new()?,
            resolver: Arc::new(resolver),
            proxy: proxy.map(Arc::new),
        };
        let standard = factory.build(None)?;
        Ok(Self { standard, custom: Mutex::new(LruCache::new(MAX_CUSTOM_PAIRS)), factory })
    }

    /// Builds the pair at the first use. Unusable settings are an [`ErrorClass::Tls`] failure.
    pub(super) fn pair_for(&self, tls: Option<&ReceiverTls>) -> Result<ClientPair, Failure> {
        let Some(tls) = tls else { return Ok(self.standard.clone()) };
        let mut custom = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = custom.get(&tls.fingerprint()) {
            return Ok(pair.clone());
        }
        let pair = self.factory.build(Some(tls));
        let pair = pair.map_err(|error| Failure::new(ErrorClass::Tls, error.to_string()))?;
        custom.put(tls.fingerprint(), pair.clone());
        Ok(pair)
    }
}

#[derive(Debug)]
struct ClientFactory {
    tls: TlsConfigs,
    resolver: Arc<GuardedResolver>,
    proxy: Option<Arc<EgressProxy>>,
}

impl ClientFactory {
    /// `tls`: `None` for a receiver without settings of its own. Fails if the settings are unusable.
    fn build(&self, tls: Option<&ReceiverTls>) -> Result<ClientPair, BuildError> {
        let config = self.tls.config(tls)?;
        if let Some(proxy) = &self.proxy {
            let config = Arc::new(config);
            let tunnel =
                |max_idle| Route::Tunnel(TunnelClient::new(proxy, Arc::clone(&config), max_idle));
            return Ok(ClientPair { pooled: tunnel(MAX_IDLE_PER_HOST), unpooled: tunnel(0) });
        }
        let builder = || {
            reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .dns_resolver(Arc::clone(&self.resolver))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .tls_backend_preconfigured(config.clone())
        };
        let pooled =
            builder().pool_max_idle_per_host(MAX_IDLE_PER_HOST).pool_idle_timeout(IDLE_TIMEOUT);
        let unpooled = builder().pool_max_idle_per_host(0);
        Ok(ClientPair {
            pooled: Route::Direct(pooled.connector_layer(RecordConnecting).build()?),
            unpooled: Route::Direct(unpooled.build()?),
        })
    }
}

/// Two clients with the same TLS settings.
#[derive(Debug, Clone)]
pub(super) struct ClientPair {
    /// Reuses connections.
    pooled: Route,
    /// Opens a connection for each request. It repeats a request whose reused connection was closed.
    unpooled: Route,
}

impl ClientPair {
    /// Sends a request. If a reused connection breaks before the response, sends the request once more on a new
    /// connection: a receiver may close an idle connection at any time (RFC 9112, section 9.3.1).
    pub(super) async fn send(&self, request: Request) -> Result<Response, Failure> {
        let repeat = request.clone();
        let (result, has_connected) = detect_connecting(self.pooled.execute(request)).await;
        match result {
            Err(failure) if !has_connected && failure.class == ErrorClass::Protocol => {
                self.unpooled.execute(repeat).await
            }
            result => result,
        }
    }
}

/// How requests reach receivers.
#[derive(Debug, Clone)]
enum Route {
    Direct(reqwest::Client),
    Tunnel(TunnelClient),
}

impl Route {
    /// Returns when the response head has arrived.
    async fn execute(&self, request: Request) -> Result<Response, Failure> {
        match self {
            Self::Direct(client) => Ok(Response::new(client.execute(request.into()).await?)),
            Self::Tunnel(client) => client.execute(request).await,
        }
    }
}
