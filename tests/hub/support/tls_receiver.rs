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
use super::raw_http::{RawRequest, RawServer, answer, read_whole};

/// The clients that the receiver accepts.
#[derive(Clone, Copy)]
pub(crate) enum LetsIn<'a> {
    /// All clients; requests no certificate.
    Everybody,
    /// Only clients with a certificate of this authority.
    Known(&'a Authority),
    /// All clients; requests a certificate of this authority.
    Asked(&'a Authority),
}

/// A request, and the SHA-256 of its connection's client certificate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) request: RawRequest,
    pub(crate) caller: Option<String>,
}

/// Responds 204.
#[derive(Debug)]
pub(crate) struct TlsReceiver {
    server: RawServer,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl TlsReceiver {
    pub(crate) async fn start(own: &Identity, lets_in: LetsIn<'_>) -> Self {
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (acceptor, noted) = (acceptor(own, lets_in), Arc::clone(&calls));
        let server = RawServer::start(move |stream| {
            let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let shown = stream.get_ref().1.peer_certificates();
                let caller = shown.and_then(|chain| chain.first()).map(|leaf| sha256(leaf));
                while let Some(request) = read_whole(&mut stream).await {
                    let call = Call { request, caller: caller.clone() };
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                    if !answer(&mut stream, "204 No Content").await {
                        return;
                    }
                }
            }
        });
        Self { server: server.await, calls }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.server.address)
    }

    /// All requests so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The SHA-256 of a certificate in PEM.
pub(crate) fn sha256_of(pem: &str) -> String {
    sha256(&CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate"))
}

fn acceptor(own: &Identity, lets_in: LetsIn<'_>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let verifier = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("a certificate");
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
    };
    let verifier = match lets_in {
        LetsIn::Everybody => WebPkiClientVerifier::no_client_auth(),
        LetsIn::Known(authority) => verifier(authority).build().expect("a verifier"),
        LetsIn::Asked(authority) => {
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
