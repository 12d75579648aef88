//! A client that controls when each byte is sent.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::client::Response;
use super::hub::ADMIN_KEY;
use super::in_time;

/// A connection to the hub.
#[derive(Debug)]
pub(crate) struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The head of a request with the admin key and the header lines `more`, without the final empty line.
pub(crate) fn request_head(request_line: &str, more: &[&str]) -> String {
    let required = format!("host: hub\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let more = more.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
    format!("{request_line}\r\n{required}{more}")
}

impl RawClient {
    pub(crate) async fn connect(hub: SocketAddr) -> Self {
        let stream = TcpStream::connect(hub).await.expect("the hub accepts");
        Self { stream, read: Vec::new() }
    }

    /// Connects and sends this text.
    pub(crate) async fn connect_and_send(hub: SocketAddr, text: &str) -> Self {
        let mut client = Self::connect(hub).await;
        client.send(text.as_bytes()).await;
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("an open connection");
    }

    /// Sends; the hub may close the connection before it has read all bytes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Closes the sending direction.
    pub(crate) async fn shutdown_write(&mut self) {
        self.stream.shutdown().await.expect("an open connection");
    }

    /// Sends these bytes repeatedly, one per `pause`, until the hub closes the connection; returns the bytes received.
    pub(crate) async fn send_slowly(mut self, bytes: &[u8], pause: Duration) -> Vec<u8> {
        let (mut read, mut write) = self.stream.split();
        let send = async {
            for byte in bytes.iter().cycle() {
                sleep(pause).await;
                // The hub has stopped reading; its response may still be unread.
                if write.write_all(&[*byte]).await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        let receive =
            async { while read.read_buf(&mut self.read).await.is_ok_and(|count| count > 0) {} };
        in_time("the hub closes the connection", async {
            tokio::select! {
                () = send => {}
                () = receive => {}
            }
        })
        .await;
        self.read
    }

    /// Waits for the next response.
    pub(crate) async fn receive(&mut self) -> Response {
        in_time("a response", async {
            loop {
                if let Some((response, length)) = parse_response(&self.read) {
                    self.read.drain(..length);
                    return response;
                }
                let count = self.stream.read_buf(&mut self.read).await.expect("a response");
                assert!(
                    count > 0,
                    "the hub closed the connection after: {}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        })
        .await
    }

    /// Waits until the hub closes the connection; returns the bytes received before.
    pub(crate) async fn wait_for_end(mut self) -> Vec<u8> {
        let end = async {
            while self.stream.read_buf(&mut self.read).await.is_ok_and(|count| count > 0) {}
        };
        in_time("the hub closes the connection", end).await;
        self.read
    }
}

/// The first response in these bytes, and its length.
pub(crate) fn parse_response(read: &[u8]) -> Option<(Response, usize)> {
    let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(read.get(..end)?.to_vec()).expect("a readable head");
    let mut lines = head.trim_end().lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let body_length: Option<usize> =
        headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let length = end + body_length.unwrap_or(0);
    let body = String::from_utf8_lossy(read.get(end..length)?).into_owned();
    Some((Response { status, headers, body }, length))
}
