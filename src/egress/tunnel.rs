//! A tunnel through the egress proxy (CONNECT; RFC 9110, section 9.3.6), for https and http receivers alike. So the
//! proxy's own response is never mistaken for the receiver's. `docs/decisions/0011-egress-tunnel.md` says why this is
//! not hyper-util's `Tunnel`.

use std::io;

use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connecting::USER_AGENT;
use crate::domain::egress::proxy::EgressProxy;

/// The hub accepts a response head of about this much from the proxy.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Why the proxy opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("the egress proxy answered {0} to CONNECT")]
    Refused(u16),
    /// The response is not HTTP/1, its head is too long or incomplete, or data arrived with a 2xx head. Such data comes
    /// before the hub's first byte through the tunnel, so it cannot be the receiver's.
    #[error("the egress proxy did not answer CONNECT with a valid HTTP response")]
    Invalid,
    /// The text repeats the I/O error. There is no `source`, so that no error class is derived from it.
    #[error("the egress proxy cannot be used: {0}")]
    Io(String),
}

impl From<io::Error> for TunnelError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Returns once the proxy has accepted a CONNECT for the host and port of `target`. Has no timeout of its own.
pub(super) async fn open_tunnel(
    proxy: &EgressProxy,
    target: &Uri,
) -> Result<TcpStream, TunnelError> {
    let mut stream = TcpStream::connect((&*proxy.host, proxy.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(connect_request(proxy, target).as_bytes()).await?;
    let mut head = Vec::with_capacity(1_024);
    loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let is_whole = end + 4 == head.len();
            return match status_of(&head) {
                Some(200..=299) if is_whole => Ok(stream),
                Some(200..=299) | None => Err(TunnelError::Invalid),
                Some(status) => Err(TunnelError::Refused(status)),
            };
        }
        if head.len() >= MAX_HEAD_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Err(TunnelError::Invalid);
        }
    }
}

/// Builds the CONNECT request, with the proxy's credentials, if any.
fn connect_request(proxy: &EgressProxy, receiver: &Uri) -> String {
    let default_port = if receiver.scheme_str() == Some("https") { 443 } else { 80 };
    let host = receiver.host().unwrap_or_default();
    let port = receiver.port_u16().unwrap_or(default_port);
    let authorization = proxy
        .authorization
        .as_ref()
        .map(|value| format!("proxy-authorization: {value}\r\n"))
        .unwrap_or_default();
    format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\nuser-agent: {USER_AGENT}\r\n{authorization}\r\n"
    )
}

/// The status in a response head (RFC 9112, section 4). `None`: the head is not valid HTTP/1.
fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|status| status.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_names_the_port_or_the_default_of_the_scheme() {
        let proxy: EgressProxy = "http://u:p@proxy:3128".parse().unwrap();
        for (url, expected) in [
            ("http://a.example/x?y", "CONNECT a.example:80 HTTP/1.1\r\nhost: a.example:80\r\n"),
            ("https://a.example/", "CONNECT a.example:443 HTTP/1.1\r\n"),
            ("https://[2606:4700::1111]:8443/", "CONNECT [2606:4700::1111]:8443 HTTP/1.1\r\n"),
        ] {
            let request = connect_request(&proxy, &url.parse().unwrap());
            assert!(request.starts_with(expected), "{request}");
            assert!(request.ends_with("proxy-authorization: Basic dTpw\r\n\r\n"), "{request}");
        }
    }

    #[test]
    fn the_status_is_read_from_an_http_1_head_only() {
        assert_eq!(status_of(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 407 X\r\nproxy-authenticate: Basic\r\n\r\n"), Some(407));
        assert_eq!(status_of(b"HTTP/1.1 503\r\n\r\n"), Some(503));
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 2000 X\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"\xff\r\n",
        ] {
            assert_eq!(status_of(bad), None);
        }
    }
}
