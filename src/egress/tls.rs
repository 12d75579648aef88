//! TLS settings of the hub's clients: the system's roots or a subscription's own, and its client certificate.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::sign::SingleCertAndKey;
use rustls_platform_verifier::Verifier;

use crate::domain::egress::receiver_tls::ReceiverTls;

/// Why an HTTP client or its TLS configuration could not be built.
pub(crate) type BuildError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct TlsConfigs {
    /// Read once for all configurations: the system has some hundred root certificates.
    system_roots: Arc<Verifier>,
}

impl TlsConfigs {
    /// Reads the system's root certificates. Fails if they cannot be used.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self { system_roots: Arc::new(Verifier::new(Arc::new(ring::default_provider()))?) })
    }

    /// Builds a TLS configuration for a receiver; `None`: for receivers without TLS settings of their own. Each has its
    /// own session cache, so that no session is resumed with another client certificate.
    pub(super) fn config(&self, tls: Option<&ReceiverTls>) -> Result<ClientConfig, BuildError> {
        let (roots, identity) = match tls {
            Some(tls) => (tls.roots()?, tls.identity()?),
            None => (None, None),
        };
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let system_roots = || Arc::<Verifier>::clone(&self.system_roots);
        let builder = match roots {
            Some(roots) => builder.with_root_certificates(roots),
            // rustls calls every custom verifier dangerous; this one is the system's.
            None => builder.dangerous().with_custom_certificate_verifier(system_roots()),
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
