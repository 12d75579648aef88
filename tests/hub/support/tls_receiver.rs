//! A receiver that speaks TLS and records the client certificate of each request.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Identity};
use super::raw_http::{RawRequest, RawServer, read_request, respond};

/// Whether a client needs a certificate.
#[derive(Clone, Copy)]
pub(crate) enum ClientAuth<'a> {
    /// Requests no certificate.
    None,
    /// Accepts only clients with a certificate of this authority.
    Required(&'a Authority),
    /// Requests a certificate of this authority, and also accepts clients without one.
    Optional(&'a Authority),
}

/// A request, and the SHA-256 of its connection's client certificate.
#[derive(Debug, Clone)]
pub(crate) struct TlsRequest {
    pub(crate) request: RawRequest,
    pub(crate) client_certificate: Option<String>,
}

/// A receiver that responds 204.
#[derive(Debug)]
pub(crate) struct TlsReceiver {
    server: RawServer,
    requests: Arc<Mutex<Vec<TlsRequest>>>,
}

impl TlsReceiver {
    pub(crate) async fn start(own: &Identity, client_auth: ClientAuth<'_>) -> Self {
        let requests: Arc<Mutex<Vec<TlsRequest>>> = Arc::default();
        let (acceptor, recorded) = (acceptor(own, client_auth), Arc::clone(&requests));
        let server = RawServer::start(move |stream| {
            let (acceptor, recorded) = (acceptor.clone(), Arc::clone(&recorded));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let chain = stream.get_ref().1.peer_certificates();
                let client_certificate =
                    chain.and_then(|chain| chain.first()).map(|leaf| sha256(leaf));
                while let Some(request) = read_request(&mut stream).await {
                    let client_certificate = client_certificate.clone();
                    let request = TlsRequest { request, client_certificate };
                    recorded.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                    if !respond(&mut stream, "204 No Content").await {
                        return;
                    }
                }
            }
        });
        Self { server: server.await, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.server.address)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<TlsRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The SHA-256 of a certificate in PEM.
pub(crate) fn sha256_of(pem: &str) -> String {
    sha256(&CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate"))
}

fn acceptor(own: &Identity, client_auth: ClientAuth<'_>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let verifier = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("a certificate");
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
    };
    let verifier = match client_auth {
        ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
        ClientAuth::Required(authority) => verifier(authority).build().expect("a verifier"),
        ClientAuth::Optional(authority) => {
            verifier(authority).allow_unauthenticated().build().expect("a verifier")
        }
    };
    let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}
