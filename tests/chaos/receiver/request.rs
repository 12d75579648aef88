//! Reads requests: the part of HTTP/1.1 that the hub uses.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A complete request.
pub(super) struct Request {
    /// The request target.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The value of a header; `name` is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    fn parse_head(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self { path, headers, body: Vec::new() })
    }
}

/// Reads the next request. Bytes beyond it stay in `unread`. `None` at the end of the connection.
pub(super) async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, unread).await?;
    };
    let head: Vec<u8> = unread.drain(..end).collect();
    let mut request = Request::parse_head(std::str::from_utf8(&head).ok()?)?;
    let length = request.header("content-length").map_or(Some(0), |text| text.parse().ok())?;
    while unread.len() < length {
        read_more(stream, unread).await?;
    }
    request.body = unread.drain(..length).collect();
    Some(request)
}

async fn read_more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(unread).await.ok()?;
    (read > 0).then_some(())
}
