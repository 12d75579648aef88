//! The way out by a proxy: each connection is a tunnel (CONNECT; RFC 9110, 9.3.6), to http receivers as well. So what
//! a receiver answers and what the proxy does are never mistaken for each other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{error, io};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::header::{HeaderValue, USER_AGENT};
use reqwest::{Body, Request, Response};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::connecting;
use super::failure::Failure;
use super::pool::{CONNECT_DEADLINE, IDLE, NAME};
use crate::domain::egress::proxy::EgressProxy;

/// The longest head of a proxy's answer, in bytes.
const LONGEST_HEAD: usize = 8 << 10;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTunnel {
    /// The proxy would not, or could not.
    #[error("the egress proxy answered {0} to CONNECT")]
    Refused(u16),
    /// What came was no answer to CONNECT.
    #[error("the egress proxy did not answer CONNECT as HTTP has it")]
    Gibberish,
    /// The proxy cannot be reached, or hung up. The cause is told here, not behind this.
    #[error("the egress proxy cannot be used: {0}")]
    Io(String),
}

impl From<io::Error> for NoTunnel {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Makes requests by tunnels, and keeps those that are idle.
#[derive(Debug, Clone)]
pub(crate) struct TunnelClient(Client<Dialer, Body>);

impl TunnelClient {
    /// One that speaks TLS to https receivers through the tunnel as `tls` says.
    pub(crate) fn new(proxy: &Arc<EgressProxy>, tls: Arc<ClientConfig>, keeps: usize) -> Self {
        let dialer = Dialer(HttpsConnector::from((Tunnels(Arc::clone(proxy)), tls)));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE.1)
            .pool_max_idle_per_host(keeps);
        Self(builder.build(dialer))
    }

    pub(crate) async fn execute(&self, mut request: Request) -> Result<Response, Failure> {
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(NAME));
        let response = self.0.request(request.try_into()?).await?;
        Ok(response.map(Body::wrap).into())
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Connects within a time, TLS included, and lets the request know.
#[derive(Debug, Clone)]
struct Dialer(HttpsConnector<Tunnels>);

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn error::Error + Send + Sync>;
    type Future = Boxed<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        connecting::note();
        let connecting = timeout(CONNECT_DEADLINE, self.0.call(target));
        Box::pin(async move { connecting.await? })
    }
}

/// Makes tunnels.
#[derive(Debug, Clone)]
struct Tunnels(Arc<EgressProxy>);

impl Service<Uri> for Tunnels {
    type Response = TokioIo<TcpStream>;
    type Error = NoTunnel;
    type Future = Boxed<Result<Self::Response, NoTunnel>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), NoTunnel>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move { tunnel(&proxy, &target).await.map(TokioIo::new) })
    }
}

async fn tunnel(proxy: &EgressProxy, target: &Uri) -> Result<TcpStream, NoTunnel> {
    let mut stream = TcpStream::connect((&*proxy.host, proxy.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(question(proxy, target).as_bytes()).await?;
    let mut read = Vec::with_capacity(1_024);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            // Whoever speaks before it is spoken to is no HTTP server, nor one of TLS.
            let is_all = end + 4 == read.len();
            return match status(&read) {
                Some(200..=299) if is_all => Ok(stream),
                Some(200..=299) | None => Err(NoTunnel::Gibberish),
                Some(status) => Err(NoTunnel::Refused(status)),
            };
        }
        if read.len() >= LONGEST_HEAD || stream.read_buf(&mut read).await? == 0 {
            return Err(NoTunnel::Gibberish);
        }
    }
}

fn question(proxy: &EgressProxy, target: &Uri) -> String {
    let default = if target.scheme_str() == Some("https") { 443 } else { 80 };
    let (host, port) = (target.host().unwrap_or_default(), target.port_u16().unwrap_or(default));
    let authorization = proxy
        .authorization
        .as_ref()
        .map(|value| format!("proxy-authorization: {value}\r\n"))
        .unwrap_or_default();
    format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\nuser-agent: {NAME}\r\n{authorization}\r\n"
    )
}

/// The status of an answer (RFC 9112, section 4).
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|status| status.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_port_that_the_scheme_means() {
        let proxy: EgressProxy = "http://u:p@proxy:3128".parse().unwrap();
        for (url, asked) in [
            ("http://a.example/x?y", "CONNECT a.example:80 HTTP/1.1\r\nhost: a.example:80\r\n"),
            ("https://a.example/", "CONNECT a.example:443 HTTP/1.1\r\n"),
            ("https://[2606:4700::1111]:8443/", "CONNECT [2606:4700::1111]:8443 HTTP/1.1\r\n"),
        ] {
            let question = question(&proxy, &url.parse().unwrap());
            assert!(question.starts_with(asked), "{question}");
            assert!(question.ends_with("proxy-authorization: Basic dTpw\r\n\r\n"), "{question}");
        }
    }

    #[test]
    fn an_answer_is_read_by_its_status() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 X\r\nproxy-authenticate: Basic\r\n\r\n"), Some(407));
        assert_eq!(status(b"HTTP/1.1 503\r\n\r\n"), Some(503));
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 2000 X\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"\xff\r\n",
        ] {
            assert_eq!(status(bad), None);
        }
    }
}
