//! Receivers that misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::interval;

use super::raw_http::{RawServer, read_webhook_id};

/// How a receiver handles a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Reads the request and resets the TCP connection.
    ResetConnection,
    /// Reads the request and never responds.
    NeverRespond,
    /// Responds 200 with an endless body, byte by byte.
    SlowBody,
    /// Responds with this status and an endless body, as fast as it is read.
    EndlessBody(&'static str),
    /// Sends endless header lines.
    EndlessHead,
    /// Sends its response head byte by byte.
    SlowHead,
    /// Sends endless `100 Continue` responses.
    EndlessContinue,
    /// Sends this body with `content-encoding: gzip`.
    CompressedBody(&'static [u8]),
    /// Redirects to this URL.
    Redirect(String),
    /// Sends the greeting of an SMTP server.
    OtherProtocol,
    /// Closes the connection in the middle of the declared body.
    TruncatedBody,
    /// Answers one request per connection, and closes the connection on the next request as if it had been idle too
    /// long.
    CloseAfterFirst,
    /// Offers TLS with a self-signed certificate.
    SelfSignedCertificate,
}

/// A receiver that misbehaves, and counts requests and bytes.
#[derive(Debug)]
pub(crate) struct MisbehavingReceiver {
    server: RawServer,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl MisbehavingReceiver {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let (requests, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (shared_requests, shared_sent) = (Arc::clone(&requests), Arc::clone(&sent));
        let server = RawServer::start(move |stream| {
            let (behaviour, requests, sent) =
                (behaviour.clone(), Arc::clone(&shared_requests), Arc::clone(&shared_sent));
            async move {
                if matches!(behaviour, Behaviour::SelfSignedCertificate) {
                    requests.fetch_add(1, Ordering::Relaxed);
                    accept_tls(stream).await;
                } else {
                    misbehave(stream, &behaviour, &requests, &sent).await;
                }
            }
        });
        Self { server: server.await, requests, sent }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// The receiver's URL with the scheme https.
    pub(crate) fn https_url(&self) -> String {
        format!("https://{}/", self.server.address)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Number of bytes sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn misbehave(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    requests: &AtomicU64,
    sent: &AtomicU64,
) {
    if matches!(behaviour, Behaviour::OtherProtocol) {
        // A TLS client waits for a response before it sends a request.
        requests.fetch_add(1, Ordering::Relaxed);
        drop(stream.write_all(b"220 smtp.example.com ESMTP ready\r\n").await);
        drop(read_webhook_id(&mut stream).await);
        return;
    }
    while read_webhook_id(&mut stream).await.is_some() {
        requests.fetch_add(1, Ordering::Relaxed);
        if !respond(&mut stream, behaviour, sent).await {
            return;
        }
    }
}

/// Responds to one request; `false` when the connection must close.
async fn respond(stream: &mut TcpStream, behaviour: &Behaviour, sent: &AtomicU64) -> bool {
    match behaviour {
        Behaviour::ResetConnection => {
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).expect("lingers");
            return false;
        }
        Behaviour::NeverRespond | Behaviour::OtherProtocol | Behaviour::SelfSignedCertificate => {
            std::future::pending::<()>().await;
        }
        Behaviour::SlowBody => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
            send_slowly(stream, head, sent).await;
        }
        Behaviour::EndlessBody(status) => {
            send_endlessly(stream, &format!("HTTP/1.1 {status}\r\n\r\n"), "x", sent).await;
        }
        Behaviour::EndlessHead => {
            send_endlessly(stream, "HTTP/1.1 200 OK\r\n", "x-more: x\r\n", sent).await;
        }
        Behaviour::SlowHead => send_slowly(stream, "HTTP/1.1 200 OK\r\nx: ", sent).await,
        Behaviour::EndlessContinue => {
            send_endlessly(stream, "", "HTTP/1.1 100 Continue\r\n\r\n", sent).await;
        }
        Behaviour::CompressedBody(body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 500 Internal Server Error\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
            );
            drop(stream.write_all(&[head.as_bytes(), body].concat()).await);
        }
        Behaviour::Redirect(location) => {
            let response = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            );
            return stream.write_all(response.as_bytes()).await.is_ok();
        }
        Behaviour::CloseAfterFirst => {
            drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
            drop(read_webhook_id(stream).await);
            return false;
        }
        Behaviour::TruncatedBody => {
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ntruncated";
            drop(stream.write_all(response).await);
            return false;
        }
    }
    true
}

async fn send_slowly(stream: &mut TcpStream, head: &str, sent: &AtomicU64) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        if stream.write_all(b"x").await.is_err() {
            return;
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send_endlessly(stream: &mut TcpStream, head: &str, more: &str, sent: &AtomicU64) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let chunk = more.repeat(16 * 1024 / more.len());
    while let Ok(count) = stream.write(chunk.as_bytes()).await {
        sent.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Completes one TLS handshake, on a thread that may block.
async fn accept_tls(stream: TcpStream) {
    let mut stream = stream.into_std().expect("a socket");
    let handshake = move || {
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))))?;
        let mut connection = ServerConnection::new(self_signed()).expect("a TLS server");
        connection.complete_io(&mut stream)
    };
    drop(tokio::task::spawn_blocking(handshake).await);
}

fn self_signed() -> Arc<ServerConfig> {
    let certificate = include_bytes!("../../fixtures/self-signed.crt.der");
    let key = include_bytes!("../../fixtures/self-signed.key.der");
    let key = PrivateKeyDer::try_from(key.as_slice()).expect("a key");
    let certificates = vec![CertificateDer::from(certificate.as_slice())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let server =
        versions.expect("versions").with_no_client_auth().with_single_cert(certificates, key);
    Arc::new(server.expect("a certificate and its key"))
}

/// A port that refuses connections: it is bound, so no other process can listen on it.
#[derive(Debug)]
pub(crate) struct ClosedPort {
    socket: Socket,
}

impl ClosedPort {
    pub(crate) fn bind() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        Self { socket }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.socket.local_addr().expect("an address");
        format!("http://{}/", address.as_socket().expect("an IP address"))
    }
}
