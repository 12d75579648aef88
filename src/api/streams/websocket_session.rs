//! One WebSocket connection: events to the client, commands from it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Item, Message, ProtocolError};
use actix_web::body::{BodySize, MessageBody};
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::time::Instant;
use tokio_util::codec::{Decoder, Encoder};

use super::websocket_command::{Commands, Outcome, RunningCommand, subscribed};
use crate::streaming::{Reader, ReaderStep, StreamEnd};

/// The longest head of a client's frame (RFC 6455, section 5.2).
const MAX_FRAME_HEAD_BYTES: usize = 14;
/// The session closes at the first ping after the client has sent nothing, not even a pong, and taken no event for this
/// time.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(45);
/// The number of waiting outgoing frames at which the session stops reading the client's frames.
const MAX_OUTGOING: usize = 16;

/// One open WebSocket: a response body that sends frames, and reads the client's from the payload.
pub(super) struct Session {
    reader: Reader,
    payload: web::Payload,
    commands: Commands,
    /// The command in progress. No further frame is read meanwhile.
    running: Option<RunningCommand>,
    codec: Codec,
    /// The size limit of one message.
    max_bytes: usize,
    received: BytesMut,
    /// The arrival time of the first bytes of an incomplete frame.
    frame_since: Option<Instant>,
    /// The parts of a fragmented message so far.
    message: Vec<u8>,
    /// The arrival time of the first fragment of that message.
    message_since: Option<Instant>,
    outgoing: VecDeque<Bytes>,
    /// The time of the last bytes from the client, or of the last event that it took.
    heard_at: Instant,
    /// Whether the connection closes after the outgoing frames.
    closed: bool,
}

impl Session {
    /// `payload` carries the client's frames. `max_bytes`: the size limit of one message.
    pub(super) fn new(
        reader: Reader,
        payload: web::Payload,
        commands: Commands,
        max_bytes: usize,
    ) -> Self {
        Self {
            reader,
            payload,
            commands,
            running: None,
            codec: Codec::new().max_size(max_bytes),
            max_bytes,
            received: BytesMut::new(),
            frame_since: None,
            message: Vec::new(),
            message_since: None,
            outgoing: VecDeque::new(),
            heard_at: Instant::now(),
            closed: false,
        }
    }

    /// Encodes a message for the client and queues it.
    fn send(&mut self, message: Message) {
        let mut frame = BytesMut::new();
        if let Err(error) = self.codec.encode(message, &mut frame) {
            tracing::debug!(%error, "a WebSocket frame cannot be encoded");
        }
        self.outgoing.push_back(frame.freeze());
    }

    /// Queues a close frame with this code and reason. The session ends once the frame is sent.
    fn close(&mut self, code: CloseCode, reason: &str) {
        self.send(Message::Close(Some(CloseReason { code, description: Some(reason.to_owned()) })));
        self.closed = true;
    }

    /// Closes the session because the stream has ended. `end` is the reason; the close code and text depend on it.
    fn end(&mut self, end: StreamEnd) {
        match end {
            StreamEnd::Stopping => self.close(
                CloseCode::Away,
                "this node is stopping; reconnect with the last event's id in after",
            ),
            StreamEnd::Expired => self.close(
                CloseCode::Policy,
                "the token or key has expired; reconnect with a new one and the last event's id in after",
            ),
            StreamEnd::Revoked => self.close(CloseCode::Policy, "the key is revoked"),
            StreamEnd::Withdrawn => {
                self.close(CloseCode::Policy, "the subscription can no longer be pulled");
            }
        }
    }

    /// Handles the client's frames until none is left, a command runs, [`MAX_OUTGOING`] frames wait, or the session is
    /// closed. False if the client has disconnected.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        while self.running.is_none() && self.outgoing.len() < MAX_OUTGOING && !self.closed {
            match self.codec.decode(&mut self.received) {
                Ok(Some(frame)) => {
                    self.frame_since = None;
                    self.handle_frame(frame);
                }
                // The codec checks the length of a frame only when the whole frame has arrived.
                Ok(None) if self.received.len() > self.max_bytes + MAX_FRAME_HEAD_BYTES => {
                    self.close_too_big();
                }
                Ok(None) if self.is_late() => self.close_late(),
                Ok(None) => match Pin::new(&mut self.payload).poll_next(context) {
                    Poll::Ready(Some(Ok(bytes))) => {
                        self.heard_at = Instant::now();
                        self.frame_since.get_or_insert(self.heard_at);
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

    /// Handles one frame of the client: text, fragment, ping, pong or close. A binary frame closes the session.
    fn handle_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.handle_text(&text),
            Frame::Continuation(Item::FirstText(part)) => {
                self.message = part.to_vec();
                self.message_since = Some(Instant::now());
            }
            Frame::Continuation(Item::Continue(part)) => self.handle_fragment(&part),
            Frame::Continuation(Item::Last(part)) => {
                self.handle_fragment(&part);
                self.message_since = None;
                if !self.closed {
                    let message = std::mem::take(&mut self.message);
                    self.handle_text(&message);
                }
            }
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                self.close(
                    CloseCode::Unsupported,
                    "a command is a text frame with JSON; binary frames are not supported",
                );
            }
            Frame::Ping(payload) => self.send(Message::Pong(payload)),
            Frame::Pong(_) => {}
            Frame::Close(reason) => {
                let code = reason.map(|reason| CloseReason { description: None, ..reason });
                self.send(Message::Close(code));
                self.closed = true;
            }
        }
    }

    /// Adds a fragment to the message in progress. Closes the session if the message exceeds the size limit.
    fn handle_fragment(&mut self, part: &[u8]) {
        if self.message.len() + part.len() > self.max_bytes {
            self.close_too_big();
        } else {
            self.message.extend_from_slice(part);
        }
    }

    /// Returns whether the client has begun a frame or message and not completed it within its deadline.
    fn is_late(&self) -> bool {
        let deadline = self.commands.api.body_deadline;
        [self.frame_since, self.message_since]
            .into_iter()
            .flatten()
            .any(|since| since.elapsed() > deadline)
    }

    fn close_late(&mut self) {
        let seconds = self.commands.api.body_deadline.as_secs_f32();
        self.close(
            CloseCode::Policy,
            &format!("a message must arrive within {seconds} s (HOOKHUB_BODY_DEADLINE_S)"),
        );
    }

    fn close_too_big(&mut self) {
        let reason = format!("a message has more than {} bytes, the limit", self.max_bytes);
        self.close(CloseCode::Size, &reason);
    }

    /// Starts the command in a text message. Text that is not UTF-8 closes the session.
    fn handle_text(&mut self, text: &[u8]) {
        match std::str::from_utf8(text) {
            Ok(text) => self.running = Some(self.commands.run(text)),
            Err(_) => self.close(CloseCode::Invalid, "a text frame must be UTF-8"),
        }
    }

    /// Queues the reply of a finished command. After `subscribe`, first gives the new filter to the reader.
    fn handle_outcome(&mut self, outcome: Outcome) {
        // Nothing was read while the command ran, so the deadlines start again.
        for since in [&mut self.frame_since, &mut self.message_since].into_iter().flatten() {
            *since = Instant::now();
        }
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Read { filter, after, gap } => {
                let types = filter.patterns();
                self.reader.change_filter(filter, after, gap);
                subscribed(&types, self.reader.cursor())
            }
        };
        self.send(Message::Text(reply.to_string().into()));
    }

    /// The next event, ping or close frame; `None`: none is due. Closes the session if the stream has ended, a message is
    /// late, or the client is silent for [`CLIENT_TIMEOUT`].
    fn next_frame(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        loop {
            let Poll::Ready(step) = self.reader.poll_step(context) else { return None };
            match step {
                ReaderStep::Event(frame) => {
                    // A client that reads events is alive. Its pongs may be stuck behind megabytes of them.
                    self.heard_at = Instant::now();
                    return Some(frame.websocket());
                }
                ReaderStep::Heartbeat(_) if self.is_late() => {
                    self.close_late();
                    return self.outgoing.pop_front();
                }
                ReaderStep::Heartbeat(_) if self.heard_at.elapsed() > CLIENT_TIMEOUT => {
                    self.close(CloseCode::Away, "the client sent nothing and answered no ping");
                    return self.outgoing.pop_front();
                }
                ReaderStep::Heartbeat(_) => {
                    self.send(Message::Ping(Bytes::new()));
                    return self.outgoing.pop_front();
                }
                ReaderStep::Scanned => {}
                ReaderStep::Failed(error) => {
                    tracing::debug!(%error, "a WebSocket failed to read the log and retries");
                }
                ReaderStep::End(end) => {
                    self.end(end);
                    return self.outgoing.pop_front();
                }
            }
        }
    }
}

impl MessageBody for Session {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        loop {
            if let Some(frame) = self.outgoing.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.closed {
                return Poll::Ready(None);
            }
            if let Some(running) = &mut self.running
                && let Poll::Ready(outcome) = running.as_mut().poll(context)
            {
                self.running = None;
                self.handle_outcome(outcome);
                continue;
            }
            let was_running = self.running.is_some();
            if !self.receive(context) {
                return Poll::Ready(None);
            }
            let started = !was_running && self.running.is_some();
            if started || !self.outgoing.is_empty() || self.closed {
                continue;
            }
            return match self.next_frame(context) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Pending,
            };
        }
    }
}
