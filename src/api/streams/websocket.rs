//! WebSocket (RFC 6455): events out, commands in, over one connection.

use std::collections::VecDeque;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::ResponseBuilder;
use actix_http::ws::{self, CloseCode, CloseReason, Codec, Frame, Item, Message, ProtocolError};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::Version;
use actix_web::http::header::SEC_WEBSOCKET_KEY;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::time::Instant;
use tokio_util::codec::{Decoder, Encoder};

use super::sse::{resume_point, start};
use super::websocket_command::{Desk, Done, Running};
use crate::api::auth::reader::Reading;
use crate::api::http::query::{Query, TOKEN};
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::api::state::worker;
use crate::streaming::presence::Transport;
use crate::streaming::resume::ResumePoint;
use crate::streaming::{Reader, ReaderStep, StreamEnd};

/// What a message may have besides the data of an event it publishes.
const ENVELOPE: usize = 16 << 10;
/// The longest head of a frame from a client (RFC 6455, section 5.2).
const FRAME_HEAD: usize = 14;
/// A client that has not been heard of for so long, its answers to pings included, is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// Answers that may wait to be sent before the next command is read.
const MOST_WAITING: usize = 16;

/// `GET /v1/ws`.
pub(crate) async fn ws(
    reading: Reading,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["types", "after", "last_event_id", TOKEN])?;
    let filter = reading.filter(&query)?;
    let point = resume_point(&request, &query)?.unwrap_or(ResumePoint::Now);
    let answer = handshake(&request)?;
    let start = start(&api.streams, filter, &point).await?;
    let reader = Reader::new(&worker(&request)?, start, Transport::WebSocket);
    let reader = reader.connect(Transport::WebSocket, reading.caller.owner(&request))?;
    open(answer, payload, reader, Desk { reading, subscription: None, api })
}

/// The answer to a handshake (RFC 6455, 4.2), of which nothing has been sent.
pub(crate) fn handshake(request: &HttpRequest) -> Result<ResponseBuilder, Problem> {
    let refuse = |refused: &dyn Display| {
        let right = "open this with a WebSocket client (RFC 6455, version 13)";
        Problem::new(Code::InvalidHeader, format!("{refused}; {right}"))
    };
    if request.version() < Version::HTTP_11 {
        return Err(refuse(&"HTTP/1.0 has no WebSockets"));
    }
    let response = ws::handshake(request.head()).map_err(|refused| refuse(&refused))?;
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| STANDARD.decode(key));
    match key {
        Some(Ok(key)) if key.len() == 16 => Ok(response),
        _ => Err(refuse(&"Sec-WebSocket-Key is not the base64 of 16 bytes")),
    }
}

/// Goes on as a WebSocket once the handshake is answered.
pub(crate) fn open(
    mut response: ResponseBuilder,
    payload: web::Payload,
    reader: Reader,
    desk: Desk,
) -> Result<HttpResponse, Problem> {
    if let Some(expires) = desk.reading.expires() {
        reader.expire_at(expires);
    }
    let quotas = desk.api.quotas.of(&desk.reading.caller.tenant);
    let most = usize::try_from(quotas.event_bytes).unwrap_or(usize::MAX).saturating_add(ENVELOPE);
    let socket = Socket {
        reader,
        payload,
        desk,
        running: None,
        codec: Codec::new().max_size(most),
        most,
        received: BytesMut::new(),
        frame_since: None,
        message: Vec::new(),
        message_since: None,
        waiting: VecDeque::new(),
        heard: Instant::now(),
        closed: false,
    };
    let body = BoxBody::new(socket);
    let response = response.message_body(body).map_err(|error| {
        Problem::new(Code::Internal, format!("the handshake cannot be answered: {error}"))
    })?;
    Ok(response.into())
}

/// One open WebSocket.
struct Socket {
    reader: Reader,
    payload: web::Payload,
    desk: Desk,
    running: Option<Running>,
    codec: Codec,
    most: usize,
    received: BytesMut,
    /// Since when a frame is on its way.
    frame_since: Option<Instant>,
    /// The parts of a message that comes in several frames, and since when it does.
    message: Vec<u8>,
    message_since: Option<Instant>,
    waiting: VecDeque<Bytes>,
    heard: Instant,
    /// Nothing follows what waits.
    closed: bool,
}

impl Socket {
    fn send(&mut self, message: Message) {
        let mut frame = BytesMut::new();
        if let Err(error) = self.codec.encode(message, &mut frame) {
            tracing::debug!(%error, "a frame cannot be written");
        }
        self.waiting.push_back(frame.freeze());
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.send(Message::Close(Some(CloseReason { code, description: Some(reason.to_owned()) })));
        self.closed = true;
    }

    fn end(&mut self, end: StreamEnd) {
        match end {
            StreamEnd::Stopping => self.close(
                CloseCode::Away,
                "this node stops; connect again with after= the last event's id",
            ),
            StreamEnd::Expired => self.close(
                CloseCode::Policy,
                "the token or key has expired; connect with a new one and after= the last event's id",
            ),
            StreamEnd::Revoked => self.close(CloseCode::Policy, "the key was revoked"),
            StreamEnd::Withdrawn => {
                self.close(CloseCode::Policy, "the subscription can no longer be pulled from");
            }
        }
    }

    /// Takes what the client sent, as far as it can be acted on now. False: the client is gone.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        while self.running.is_none() && self.waiting.len() < MOST_WAITING && !self.closed {
            match self.codec.decode(&mut self.received) {
                Ok(Some(frame)) => {
                    self.frame_since = None;
                    self.take_frame(frame);
                }
                // The codec looks at a frame's length when all of it is there.
                Ok(None) if self.received.len() > self.most + FRAME_HEAD => self.close_too_big(),
                Ok(None) if self.is_late() => self.close_late(),
                Ok(None) => match Pin::new(&mut self.payload).poll_next(context) {
                    Poll::Ready(Some(Ok(bytes))) => {
                        self.heard = Instant::now();
                        self.frame_since.get_or_insert(self.heard);
                        self.received.extend_from_slice(&bytes);
                    }
                    Poll::Ready(_) => return false,
                    Poll::Pending => return true,
                },
                Err(ProtocolError::Overflow) => self.close_too_big(),
                Err(error) => self.close(CloseCode::Protocol, &error.to_string()),
            }
        }
        true
    }

    fn take_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.take_text(&text),
            Frame::Continuation(Item::FirstText(part)) => {
                self.message = part.to_vec();
                self.message_since = Some(Instant::now());
            }
            Frame::Continuation(Item::Continue(part)) => self.take_part(&part),
            Frame::Continuation(Item::Last(part)) => {
                self.take_part(&part);
                self.message_since = None;
                if !self.closed {
                    let message = std::mem::take(&mut self.message);
                    self.take_text(&message);
                }
            }
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                self.close(CloseCode::Unsupported, "commands are text frames with JSON");
            }
            Frame::Ping(told) => self.send(Message::Pong(told)),
            Frame::Pong(_) => {}
            Frame::Close(reason) => {
                let code = reason.map(|reason| CloseReason { description: None, ..reason });
                self.send(Message::Close(code));
                self.closed = true;
            }
        }
    }

    fn take_part(&mut self, part: &[u8]) {
        if self.message.len() + part.len() > self.most {
            self.close_too_big();
        } else {
            self.message.extend_from_slice(part);
        }
    }

    /// Whether a message has been on its way for too long.
    fn is_late(&self) -> bool {
        let deadline = self.desk.api.body_deadline;
        [self.frame_since, self.message_since]
            .into_iter()
            .flatten()
            .any(|since| since.elapsed() > deadline)
    }

    fn close_late(&mut self) {
        let seconds = self.desk.api.body_deadline.as_secs_f32();
        self.close(CloseCode::Policy, &format!("a message is there within {seconds} s"));
    }

    fn close_too_big(&mut self) {
        let reason = format!("a message has at most {} bytes", self.most);
        self.close(CloseCode::Size, &reason);
    }

    fn take_text(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(text) => self.running = Some(self.desk.run(text)),
            Err(_) => self.close(CloseCode::Invalid, "a text frame is UTF-8"),
        }
    }

    fn take_done(&mut self, done: Done) {
        // Meanwhile nothing was read: the client gets its time anew.
        for since in [&mut self.frame_since, &mut self.message_since].into_iter().flatten() {
            *since = Instant::now();
        }
        let answer = match done {
            Done::Answer(answer) => answer,
            Done::Read { filter, after, gap } => {
                let types = filter.patterns();
                self.reader.change(filter, after, gap);
                Desk::subscribed(&types, self.reader.cursor())
            }
        };
        self.send(Message::Text(answer.to_string().into()));
    }

    /// What the reader has: a frame; `None`: nothing right now.
    fn read(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        loop {
            let Poll::Ready(step) = self.reader.poll_step(context) else { return None };
            match step {
                ReaderStep::Event(frame) => {
                    // What it takes is a sign of life too: its pongs may stand behind megabytes.
                    self.heard = Instant::now();
                    return Some(frame.websocket());
                }
                ReaderStep::Heartbeat(_) if self.is_late() => {
                    self.close_late();
                    return self.waiting.pop_front();
                }
                ReaderStep::Heartbeat(_) if self.heard.elapsed() > SILENCE => {
                    self.close(
                        CloseCode::Away,
                        "nothing was heard of this client, nor answers to pings",
                    );
                    return self.waiting.pop_front();
                }
                ReaderStep::Heartbeat(_) => {
                    self.send(Message::Ping(Bytes::new()));
                    return self.waiting.pop_front();
                }
                ReaderStep::Scanned => {}
                ReaderStep::Failed(error) => {
                    tracing::debug!(%error, "a WebSocket cannot read on in the log");
                }
                ReaderStep::End(end) => {
                    self.end(end);
                    return self.waiting.pop_front();
                }
            }
        }
    }
}

impl MessageBody for Socket {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.closed {
                return Poll::Ready(None);
            }
            if let Some(running) = &mut self.running
                && let Poll::Ready(done) = running.as_mut().poll(context)
            {
                self.running = None;
                self.take_done(done);
                continue;
            }
            let was_running = self.running.is_some();
            if !self.receive(context) {
                return Poll::Ready(None);
            }
            let begun = !was_running && self.running.is_some();
            if begun || !self.waiting.is_empty() || self.closed {
                continue;
            }
            return match self.read(context) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Pending,
            };
        }
    }
}
