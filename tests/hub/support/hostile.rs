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

use super::raw_http::{RawServer, read_request};

/// The behaviour of a receiver.
#[derive(Debug, Clone)]
pub(crate) enum Malice {
    /// Reads the request and resets the connection.
    Resets,
    /// Reads the request and never responds.
    Hangs,
    /// Responds 200 with an endless body, byte by byte.
    Drips,
    /// Responds with this status and an endless body, as fast as it is read.
    Endless(&'static str),
    /// Sends endless header lines.
    EndlessHead,
    /// Sends its response head byte by byte.
    DripsHead,
    /// Sends endless `100 Continue` responses.
    Continues,
    /// Sends a body that claims to be compressed.
    Compressed(&'static [u8]),
    /// Redirects to this URL.
    Redirects(String),
    /// Responds in another protocol.
    Gibberish,
    /// Closes the connection in the middle of the declared body.
    BreaksOff,
    /// Answers one request per connection, and closes the connection on the next request as if it had been idle too
    /// long.
    HangsUp,
    /// Speaks TLS with a self-signed certificate.
    SelfSigned,
}

/// A hostile receiver that counts requests and bytes.
#[derive(Debug)]
pub(crate) struct Hostile {
    server: RawServer,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Hostile {
    pub(crate) async fn start(malice: Malice) -> Self {
        let (requests, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (all_requests, all_sent) = (Arc::clone(&requests), Arc::clone(&sent));
        let server = RawServer::start(move |stream| {
            let (malice, requests, sent) =
                (malice.clone(), Arc::clone(&all_requests), Arc::clone(&all_sent));
            async move {
                if matches!(malice, Malice::SelfSigned) {
                    requests.fetch_add(1, Ordering::Relaxed);
                    shake_hands(stream).await;
                } else {
                    harass(stream, &malice, &requests, &sent).await;
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

async fn harass(mut stream: TcpStream, malice: &Malice, requests: &AtomicU64, sent: &AtomicU64) {
    if matches!(malice, Malice::Gibberish) {
        // TLS clients are served without a request.
        requests.fetch_add(1, Ordering::Relaxed);
        drop(stream.write_all(b"220 smtp.example.com ESMTP ready\r\n").await);
        drop(read_request(&mut stream).await);
        return;
    }
    while read_request(&mut stream).await.is_some() {
        requests.fetch_add(1, Ordering::Relaxed);
        match malice {
            Malice::Resets => {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("lingers");
                return;
            }
            Malice::Hangs | Malice::Gibberish | Malice::SelfSigned => std::future::pending().await,
            Malice::Drips => {
                drip(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", sent).await;
            }
            Malice::Endless(status) => {
                pour(&mut stream, &format!("HTTP/1.1 {status}\r\n\r\n"), "x", sent).await;
            }
            Malice::EndlessHead => {
                pour(&mut stream, "HTTP/1.1 200 OK\r\n", "x-more: x\r\n", sent).await;
            }
            Malice::DripsHead => drip(&mut stream, "HTTP/1.1 200 OK\r\nx: ", sent).await,
            Malice::Continues => {
                pour(&mut stream, "", "HTTP/1.1 100 Continue\r\n\r\n", sent).await;
            }
            Malice::Compressed(body) => {
                let head = format!(
                    "HTTP/1.1 500 Oh\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(&[head.as_bytes(), body].concat()).await);
            }
            Malice::Redirects(place) => {
                let text = format!(
                    "HTTP/1.1 307 Temporary Redirect\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n"
                );
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Malice::HangsUp => {
                drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
                drop(read_request(&mut stream).await);
                return;
            }
            Malice::BreaksOff => {
                drop(
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ntruncated")
                        .await,
                );
                return;
            }
        }
    }
}

async fn drip(stream: &mut TcpStream, head: &str, sent: &AtomicU64) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut drops = interval(Duration::from_millis(50));
    loop {
        drops.tick().await;
        if stream.write_all(b"x").await.is_err() {
            return;
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

async fn pour(stream: &mut TcpStream, head: &str, more: &str, sent: &AtomicU64) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let flood = more.repeat(16 * 1024 / more.len());
    while let Ok(count) = stream.write(flood.as_bytes()).await {
        sent.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// One TLS handshake, on a thread that may block.
async fn shake_hands(stream: TcpStream) {
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

/// A port that keeps refusing connections: it is bound, but no socket listens.
#[derive(Debug)]
pub(crate) struct ClosedPort {
    socket: Socket,
}

impl ClosedPort {
    pub(crate) fn take() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        Self { socket }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.socket.local_addr().expect("an address");
        format!("http://{}/", address.as_socket().expect("an IP address"))
    }
}
