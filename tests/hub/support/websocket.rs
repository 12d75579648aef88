//! A WebSocket client (RFC 6455) that can also send invalid frames.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::follower::End;
use super::in_time;
use super::sse::address_of;

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Box<WebSocketStream<TcpStream>>,
    pings: usize,
}

impl Socket {
    /// Opens a WebSocket with the URL and the headers of `request`.
    pub(crate) async fn open(request: RequestBuilder) -> Result<Self, End> {
        let request = request.build().expect("a request");
        let mut url = request.url().clone();
        let address = address_of(&url);
        url.set_scheme("ws").expect("a scheme");
        let mut handshake = url.as_str().into_client_request().expect("a request");
        handshake.headers_mut().extend(request.headers().clone());
        let tcp = TcpStream::connect(address).await.map_err(|e| End::Failed(e.to_string()))?;
        match client_async(handshake, tcp).await {
            Ok((stream, _)) => Ok(Self { stream: Box::new(stream), pings: 0 }),
            Err(Error::Http(refused)) => Err(End::Refused(refused.status().as_u16())),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }

    /// The next text message.
    pub(crate) async fn next(&mut self) -> Result<String, End> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(End::Closed(close.code.into()));
                }
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(End::Failed(error.to_string())),
                None => return Err(End::Clean),
            }
        }
    }

    /// The next text message as JSON; panics when the connection ends first.
    pub(crate) async fn receive(&mut self) -> Value {
        let text = in_time("a text message", self.next()).await.expect("a text message");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits for the hub's close frame and the end of the connection; returns the code.
    pub(crate) async fn wait_for_end(&mut self) -> u16 {
        let end = async {
            let mut last = self.next().await;
            while last.is_ok() {
                last = self.next().await;
            }
            let Err(End::Closed(code)) = last else { unreachable!("no close frame: {last:?}") };
            while let Some(Ok(_)) = self.stream.next().await {}
            code
        };
        in_time("the hub closes the socket", end).await
    }

    /// Waits for a ping or pong with this payload; discards text messages before it.
    pub(crate) async fn wait_for_pong(&mut self, payload: &[u8]) {
        in_time("a pong", async {
            loop {
                match self.stream.next().await.expect("an open socket").expect("a frame") {
                    Message::Pong(received) if received == payload => return,
                    _ => {}
                }
            }
        })
        .await;
    }

    /// Number of pings from the hub.
    pub(crate) fn pings(&self) -> usize {
        self.pings
    }

    /// Sends a command as a text message.
    pub(crate) async fn send(&mut self, command: &Value) {
        self.send_text(&command.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends a text on a socket that may be closed.
    pub(crate) async fn try_send_text(&mut self, text: &str) -> Result<(), Error> {
        self.stream.send(Message::text(text)).await
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.stream.send(message).await.expect("an open socket");
    }

    /// Sends a text in fragments.
    pub(crate) async fn send_fragmented(&mut self, fragments: &[&str]) {
        for (n, fragment) in fragments.iter().enumerate() {
            let kind = if n == 0 { Data::Text } else { Data::Continue };
            let last = n + 1 == fragments.len();
            let frame = Frame::message(fragment.as_bytes().to_vec(), OpCode::Data(kind), last);
            self.send_message(Message::Frame(frame)).await;
        }
    }

    /// Sends raw bytes.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("an open socket");
    }

    /// Sends raw bytes, then fails if the hub has closed the socket; reads for at most 1 ms.
    pub(crate) async fn send_raw_and_check(&mut self, bytes: &[u8]) -> Result<(), End> {
        let sent = self.stream.get_mut().write_all(bytes).await;
        match timeout(Duration::from_millis(1), self.next()).await {
            Ok(Err(end)) => Err(end),
            Ok(Ok(_)) | Err(_) => sent.map_err(|error| End::Failed(error.to_string())),
        }
    }

    /// Waits for `count` pongs.
    pub(crate) async fn wait_for_pongs(&mut self, mut count: usize) {
        while count > 0 {
            if let Message::Pong(_) =
                self.stream.next().await.expect("an open socket").expect("a frame")
            {
                count -= 1;
            }
        }
    }
}
