//! One client connection, with timeouts for request heads, idle time and stalled writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection_limiter::ConnectionPermit;
use super::request_phase::RequestPhase;
use crate::api;
use crate::config::ClientTimeouts;

/// While the hub stops, a client that reads nothing for this long is disconnected.
const STALLED_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// A TCP stream that fails reads and writes when the client exceeds a timeout.
pub(super) struct Connection {
    stream: TcpStream,
    phase: RequestPhase,
    head: HeadTimer,
    /// A write is waiting for the client to read.
    write_pending: bool,
    /// Runs while the hub stops and a write is waiting.
    stalled: Option<Pin<Box<Sleep>>>,
    stopping: CancellationToken,
    /// Counts the connection until it closes.
    _permit: Option<ConnectionPermit>,
}

impl Connection {
    /// The time limit for the first request head starts now. `permit`: `None` if the connection is not counted.
    pub(super) fn new(
        stream: TcpStream,
        timeouts: ClientTimeouts,
        stopping: CancellationToken,
        permit: Option<ConnectionPermit>,
    ) -> Self {
        Self {
            stream,
            phase: RequestPhase::default(),
            head: HeadTimer::new(timeouts),
            stalled: None,
            write_pending: false,
            stopping,
            _permit: permit,
        }
    }

    pub(super) fn phase(&self) -> RequestPhase {
        self.phase.clone()
    }

    /// Returns the error for a client that exceeded a time limit. If the limit was on a request head, first sends a 408
    /// response, but not in the middle of another response.
    fn timed_out(&self) -> io::Error {
        if !self.write_pending && self.head.started_at.is_some() {
            // Does not wait: a client with a full receive buffer misses the response.
            drop(self.stream.try_write(&api::late_head(self.head.timeout)));
        }
        io::ErrorKind::TimedOut.into()
    }

    /// Records whether the write is pending. While the hub stops, a write pending for [`STALLED_WRITE_TIMEOUT`] fails.
    fn check_stalled<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.write_pending = written.is_pending();
        if !self.write_pending {
            self.stalled = None;
            return written;
        }
        if self.stopping.is_cancelled() {
            let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED_WRITE_TIMEOUT)));
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

/// The time limits on a request head and on the silence after a response.
struct HeadTimer {
    timeout: Duration,
    /// The longest silence after a response. It is slightly longer than the idle timeout, which actix-http enforces
    /// except while it reads the rest of a chunked body that the handler ignored.
    max_silence: Duration,
    /// The start of the head in progress: the connection's start for the first head, the first byte for later ones.
    started_at: Option<Instant>,
    /// The number of heads that were complete at the last check.
    completed: u64,
    /// Wakes the connection at or before the end of the time limit.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    /// Creates a timer whose time limit for the first request head starts now.
    fn new(timeouts: ClientTimeouts) -> Self {
        Self {
            timeout: timeouts.head,
            max_silence: timeouts.idle + timeouts.head,
            started_at: Some(Instant::now()),
            completed: 0,
            timer: None,
        }
    }

    /// Handles bytes from the client: they start the time limit of the next request head, unless the hub is responding to
    /// a request.
    fn handle_bytes(&mut self, phase: &RequestPhase) {
        self.update(phase);
        if !phase.is_responding() {
            self.started_at.get_or_insert_with(Instant::now);
        }
    }

    /// Ends the time limit for the current request head if that head has become complete since the last call.
    fn update(&mut self, phase: &RequestPhase) {
        if self.completed != phase.heads() {
            self.completed = phase.heads();
            self.started_at = None;
        }
    }

    /// Becomes ready when the time limit of a head, or of the silence after a response, has passed.
    ///
    /// A complete head leaves the timer running, and a timer that fires too early is reset: most heads arrive in one
    /// piece and need no timer of their own.
    fn poll_expired(&mut self, phase: &RequestPhase, context: &mut Context<'_>) -> Poll<()> {
        self.update(phase);
        loop {
            let silence_end = || phase.waiting_since().map(|since| since + self.max_silence);
            let end = self.started_at.map(|start| start + self.timeout).or_else(silence_end);
            let timer = match (&mut self.timer, end) {
                (Some(timer), _) => timer,
                (None, Some(end)) => self.timer.insert(Box::pin(sleep_until(end))),
                (None, None) => return Poll::Pending,
            };
            ready!(timer.as_mut().poll(context));
            match end {
                Some(end) if timer.deadline() >= end => return Poll::Ready(()),
                Some(end) => timer.as_mut().reset(end),
                None => self.timer = None,
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            if buffer.filled().len() > before {
                this.head.handle_bytes(&this.phase);
            }
            return read;
        }
        ready!(this.head.poll_expired(&this.phase, context));
        Poll::Ready(Err(this.timed_out()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        // actix-http does not poll for a read after the last write of a response, so the timer is armed here.
        if this.head.poll_expired(&this.phase, context).is_ready() {
            context.waker().wake_by_ref();
        }
        this.check_stalled(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
