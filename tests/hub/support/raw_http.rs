//! A minimal HTTP/1.1 server on a TCP socket, for receivers that break rules of HTTP.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens, and serves each connection in its own task. Dropping the value ends all of them.
#[derive(Debug)]
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl RawServer {
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Reads up to the end of a request's head; returns the bytes and the end's index. `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<u8>, usize)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Some((read, end + 4));
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads one request with its body and returns its `webhook-id`. `None` at the end of the connection.
pub(crate) async fn read_webhook_id(stream: &mut TcpStream) -> Option<String> {
    read_request(stream).await.map(|request| request.header("webhook-id").unwrap_or_default())
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct RawRequest {
    /// The request line and the header lines.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawRequest {
    /// The value of a header; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value_of = |line: &str| {
            let (line_name, value) = line.split_once(':')?;
            line_name.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().skip(1).find_map(value_of)
    }
}

/// Reads one request with its body. `None` at the end of the connection.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<RawRequest> {
    let (mut read, end_of_head) = read_head(stream).await?;
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let head = text_of(read.get(..end_of_head)?);
    let mut request = RawRequest { head, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    let end: usize = end_of_head + length.unwrap_or(0);
    while read.len() < end {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    request.body = text_of(read.get(end_of_head..)?);
    Some(request)
}

/// Sends a response without a body; `false` when the connection is closed.
pub(crate) async fn respond(stream: &mut (impl AsyncWrite + Unpin), status: &str) -> bool {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.is_ok()
}
