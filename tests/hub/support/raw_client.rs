//! A client that controls when each byte is sent.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::client::Answer;
use super::hub::ADMIN_KEY;
use super::in_time;

/// A connection to the hub.
#[derive(Debug)]
pub(crate) struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The head of a request with the admin key, without the final empty line; `more` are header lines.
pub(crate) fn head(request_line: &str, more: &[&str]) -> String {
    let own = format!("host: hub\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let more = more.iter().flat_map(|line| [*line, "\r\n"]).collect::<String>();
    format!("{request_line}\r\n{own}{more}")
}

impl RawClient {
    pub(crate) async fn connect(hub: SocketAddr) -> Self {
        let stream = TcpStream::connect(hub).await.expect("the hub is there");
        Self { stream, read: Vec::new() }
    }

    /// A client that has sent this.
    pub(crate) async fn that_says(hub: SocketAddr, text: &str) -> Self {
        let mut client = Self::connect(hub).await;
        client.say(text.as_bytes()).await;
        client
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it is open");
    }

    /// Sends until the hub stops reading, for a hub that responds before it has read everything.
    pub(crate) async fn try_to_say(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Closes the sending direction.
    pub(crate) async fn shut(&mut self) {
        self.stream.shutdown().await.expect("it is open");
    }

    /// Sends these bytes over and over, one at a time, until the hub closes the connection; returns the bytes received.
    pub(crate) async fn drip(mut self, bytes: &[u8], pause: Duration) -> Vec<u8> {
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
        let hear =
            async { while read.read_buf(&mut self.read).await.is_ok_and(|count| count > 0) {} };
        in_time("the hub ends it", async {
            tokio::select! {
                () = send => {}
                () = hear => {}
            }
        })
        .await;
        self.read
    }

    /// The next response.
    pub(crate) async fn hear(&mut self) -> Answer {
        in_time("an answer", async {
            loop {
                if let Some((answer, length)) = answer_in(&self.read) {
                    self.read.drain(..length);
                    return answer;
                }
                let count = self.stream.read_buf(&mut self.read).await.expect("an answer");
                assert!(count > 0, "hung up on: {}", String::from_utf8_lossy(&self.read));
            }
        })
        .await
    }

    /// Waits until the hub closes the connection; returns the bytes received before.
    pub(crate) async fn end(mut self) -> Vec<u8> {
        let end = async {
            while self.stream.read_buf(&mut self.read).await.is_ok_and(|count| count > 0) {}
        };
        in_time("the hub ends it", end).await;
        self.read
    }
}

/// The first response in these bytes, and its length.
pub(crate) fn answer_in(read: &[u8]) -> Option<(Answer, usize)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(read.get(..end)?.to_vec()).expect("a readable head");
    let mut lines = head.trim_end().lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let whole = end + length.unwrap_or(0);
    let text = String::from_utf8_lossy(read.get(end..whole)?).into_owned();
    Some((Answer { status, headers, text }, whole))
}
