//! The HTTP clients that requests go out by: one pair for all, and one for each way of speaking TLS that a
//! subscription wants. No two of them share a connection.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use reqwest::{Client, Request, Response};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::sign::SingleCertAndKey;
use rustls_platform_verifier::Verifier;

use super::connecting::{NoteConnecting, noting};
use super::failure::Failure;
use super::resolver::GuardedResolver;
use super::tunnel::TunnelClient;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::proxy::EgressProxy;
use crate::domain::egress::receiver_tls::ReceiverTls;

/// What the hub calls itself.
pub(crate) const NAME: &str = concat!("hookhub/", env!("CARGO_PKG_VERSION"));
/// How long a connection may take to be made, TLS included.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Idle connections kept for each host, and how long. As many as may run at once to the subscriptions of one host, or
/// they are made anew all the time; for less long than the usual receiver keeps its side.
pub(crate) const IDLE: (usize, Duration) = (512, Duration::from_secs(4));
/// Clients kept for subscriptions that speak TLS in a way of their own; the one unused longest goes first.
const MOST_OWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// What can keep a client from being made.
type Unmade = Box<dyn std::error::Error + Send + Sync>;

/// The clients of a node.
#[derive(Debug)]
pub(crate) struct Lines {
    plain: Line,
    own: Mutex<LruCache<[u8; 32], Line>>,
    maker: Maker,
}

impl Lines {
    /// Clients that connect where `resolver` lets them, or all by a proxy.
    pub(crate) fn new(
        resolver: GuardedResolver,
        proxy: Option<EgressProxy>,
    ) -> Result<Self, Unmade> {
        let maker = Maker {
            // Read once for all of them: the system's roots are some hundred certificates.
            system: Arc::new(Verifier::new(Arc::new(ring::default_provider()))?),
            resolver: Arc::new(resolver),
            proxy: proxy.map(Arc::new),
        };
        let plain = maker.make(None)?;
        Ok(Self { plain, own: Mutex::new(LruCache::new(MOST_OWN)), maker })
    }

    /// The line that speaks TLS as `tls` says.
    pub(crate) fn line(&self, tls: Option<&ReceiverTls>) -> Result<Line, Failure> {
        let Some(tls) = tls else { return Ok(self.plain.clone()) };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = own.get(&tls.fingerprint()) {
            return Ok(line.clone());
        }
        let line = self.maker.make(Some(tls));
        let line = line.map_err(|error| Failure::new(ErrorClass::Tls, error.to_string()))?;
        own.put(tls.fingerprint(), line.clone());
        Ok(line)
    }
}

#[derive(Debug)]
struct Maker {
    system: Arc<Verifier>,
    resolver: Arc<GuardedResolver>,
    proxy: Option<Arc<EgressProxy>>,
}

impl Maker {
    fn make(&self, tls: Option<&ReceiverTls>) -> Result<Line, Unmade> {
        let config = self.config(tls)?;
        if let Some(proxy) = &self.proxy {
            let config = Arc::new(config);
            let way = |keeps| Way::Tunnel(TunnelClient::new(proxy, Arc::clone(&config), keeps));
            return Ok(Line { kept: way(IDLE.0), fresh: way(0) });
        }
        let builder = || {
            Client::builder()
                .user_agent(NAME)
                .dns_resolver(Arc::clone(&self.resolver))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_DEADLINE)
                .tcp_nodelay(true)
                .tls_backend_preconfigured(config.clone())
        };
        let kept = builder().pool_max_idle_per_host(IDLE.0).pool_idle_timeout(IDLE.1);
        let fresh = builder().pool_max_idle_per_host(0);
        Ok(Line {
            kept: Way::Straight(kept.connector_layer(NoteConnecting).build()?),
            fresh: Way::Straight(fresh.build()?),
        })
    }

    /// Each configuration has its own memory of TLS sessions: one that was begun as somebody is not resumed as another.
    fn config(&self, tls: Option<&ReceiverTls>) -> Result<ClientConfig, Unmade> {
        let (roots, identity) = match tls {
            Some(tls) => (tls.roots()?, tls.identity()?),
            None => (None, None),
        };
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let system = || Arc::<Verifier>::clone(&self.system);
        let builder = match roots {
            Some(roots) => builder.with_root_certificates(roots),
            // "Dangerous" is a verifier of one's own; this is the system's.
            None => builder.dangerous().with_custom_certificate_verifier(system()),
        };
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Two clients that speak in one way.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Keeps connections.
    kept: Way,
    /// Makes each anew, for when a kept one turned out to be closed.
    fresh: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Straight(Client),
    Tunnel(TunnelClient),
}

impl Line {
    /// Sends a request, and once more on a new connection when it went out on a kept one that broke before any
    /// answer: receivers close idle connections whenever they like, and that is no failure of theirs (RFC 9112, 9.3.1).
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Failure> {
        let again = request.try_clone();
        let (sent, connecting) = noting(self.kept.execute(request)).await;
        match (sent, again) {
            (Err(failure), Some(again)) if !connecting && failure.class == ErrorClass::Protocol => {
                self.fresh.execute(again).await
            }
            (sent, _) => sent,
        }
    }
}

impl Way {
    async fn execute(&self, request: Request) -> Result<Response, Failure> {
        match self {
            Self::Straight(client) => Ok(client.execute(request).await?),
            Self::Tunnel(client) => client.execute(request).await,
        }
    }
}
