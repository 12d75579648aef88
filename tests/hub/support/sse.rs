//! Server-Sent Events as a browser reads them (WHATWG HTML, section 9.2).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::follower::End;

/// Longer than any test reads one stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(120);

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: String,
    /// The field `event`; `message` without it.
    pub(crate) event: String,
    pub(crate) data: String,
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct EventSource {
    response: Response,
    parser: Parser,
}

impl EventSource {
    /// Opens a stream; fails with the status when the hub refuses.
    pub(crate) async fn open(request: RequestBuilder) -> Result<Self, End> {
        let request = request.timeout(STREAM_TIMEOUT);
        let response = request.send().await.map_err(|error| End::Failed(error.to_string()))?;
        if response.status() != 200 {
            return Err(End::Refused(response.status().as_u16()));
        }
        Ok(Self { response, parser: Parser::default() })
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.parser.messages.pop_front() {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// Reads the next bytes.
    pub(crate) async fn read(&mut self) -> Result<(), End> {
        match self.response.chunk().await {
            Ok(Some(bytes)) => {
                self.parser.feed(&bytes);
                Ok(())
            }
            Ok(None) => Err(End::Clean),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }

    /// The value that a browser would send as `Last-Event-ID`.
    pub(crate) fn last_id(&self) -> &str {
        &self.parser.last_id
    }

    /// The last value of `retry`.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.parser.retry_ms
    }

    /// Number of comments.
    pub(crate) fn comments(&self) -> usize {
        self.parser.comments
    }
}

/// A stream over a socket with small buffers.
#[derive(Debug)]
pub(crate) struct SmallBufferStream {
    socket: TcpStream,
    parser: Parser,
}

impl SmallBufferStream {
    /// Requests by HTTP/1.0, whose bodies are not chunked.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let request = request.build().expect("a request");
        let mut socket = connect_with_small_buffer(request.url()).await;
        let key =
            request.headers().get("authorization").expect("a key").to_str().expect("readable");
        let (path, query) = (request.url().path(), request.url().query().unwrap_or_default());
        let head = format!("GET {path}?{query} HTTP/1.0\r\nauthorization: {key}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("sent");
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(socket.read_u8().await.expect("a response"));
        }
        assert!(read.starts_with(b"HTTP/1.0 200 "), "{}", String::from_utf8_lossy(&read));
        Self { socket, parser: Parser::default() }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Message {
        let mut chunk = vec![0; 16_384];
        loop {
            if let Some(message) = self.parser.messages.pop_front() {
                return message;
            }
            let read = self.socket.read(&mut chunk).await.expect("an open stream");
            assert!(read > 0, "the hub closed the stream");
            self.parser.feed(chunk.get(..read).expect("the bytes read"));
        }
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }
}

/// The socket address of a URL.
pub(crate) fn address_of(url: &url::Url) -> SocketAddr {
    let addresses = url.socket_addrs(|| None).expect("an address");
    *addresses.first().expect("an address")
}

/// Connects to a URL's address with a small receive buffer.
pub(crate) async fn connect_with_small_buffer(url: &url::Url) -> TcpStream {
    let address = address_of(url);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 << 10).expect("a size");
    socket.connect(address).await.expect("the hub accepts")
}

/// Parses the text of a stream (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    /// Whether a line was read; only the first line can start with a byte order mark.
    has_line: bool,
    data: String,
    event: String,
    /// Takes effect at the next blank line.
    id: String,
    last_id: String,
    retry_ms: Option<u64>,
    comments: usize,
    messages: VecDeque<Message>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match (byte, std::mem::take(&mut self.after_cr)) {
                (b'\n', true) => {}
                (b'\r' | b'\n', _) => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8(line).expect("an event stream is UTF-8");
                    let has_line = std::mem::replace(&mut self.has_line, true);
                    self.parse_line(if has_line {
                        &line
                    } else {
                        line.trim_start_matches('\u{feff}')
                    });
                }
                _ => self.line.push(*byte),
            }
        }
    }

    fn parse_line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" => self.retry_ms = value.parse().ok().or(self.retry_ms),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.id.clone_into(&mut self.last_id);
        let (data, event) = (std::mem::take(&mut self.data), std::mem::take(&mut self.event));
        let Some(data) = data.strip_suffix('\n') else { return };
        let event = if event.is_empty() { "message".to_owned() } else { event };
        self.messages.push_back(Message { id: self.id.clone(), event, data: data.to_owned() });
    }
}

#[test]
fn sse_parser_follows_the_standard_at_every_chunk_boundary() {
    let text = "\u{feff}retry: 5\r\n\r\n:hello\n\nid: 1\ndata: a\ndata:  b\n\nid: 2\r\revent: x\rdata\r\r\
                id: 3\ndata: lost";
    for size in 1..text.len() {
        let mut parser = Parser::default();
        text.as_bytes().chunks(size).for_each(|chunk| parser.feed(chunk));
        let message = |id: &str, event: &str, data: &str| Message {
            id: id.to_owned(),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(parser.messages, [message("1", "message", "a\n b"), message("2", "x", "")]);
        assert_eq!((parser.last_id.as_str(), parser.retry_ms, parser.comments), ("2", Some(5), 1));
    }
}
