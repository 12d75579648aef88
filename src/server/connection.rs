//! A client's connection, and how long it may keep the hub waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection_limiter::Place;
use super::request_phase::Turn;
use crate::api;
use crate::config::Patience;

/// While the hub stops, a client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(2);

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    turn: Turn,
    head: Head,
    /// Something waits for the client to take it.
    unsent: bool,
    /// Until when it may, while the hub stops.
    stalled: Option<Pin<Box<Sleep>>>,
    stopping: CancellationToken,
    /// It counts as long as it is open.
    _place: Option<Place>,
}

/// The head of a request on its way.
struct Head {
    deadline: Duration,
    /// How long nothing may come after an answer. A little longer than a connection is idle, which the library sees to,
    /// but not while it waits for the rest of a body in chunks that nobody reads any more.
    silence: Duration,
    /// Since when it is on its way: for the first from the start, for others from its first byte.
    began: Option<Instant>,
    /// How many were complete before.
    before: u64,
    /// Looks again, at or before the end of its time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// A new connection, whose client has the time that `patience` gives it for the head of each request, and between
    /// two.
    pub(super) fn new(
        stream: TcpStream,
        patience: Patience,
        stopping: CancellationToken,
        place: Option<Place>,
    ) -> Self {
        let head = Head {
            deadline: patience.head,
            silence: patience.idle + patience.head,
            began: Some(Instant::now()),
            before: 0,
            timer: None,
        };
        let turn = Turn::default();
        Self { stream, turn, head, stalled: None, unsent: false, stopping, _place: place }
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Ends it, and says why if that does not go into the middle of an answer.
    fn end(&self) -> io::Error {
        if !self.unsent && self.head.began.is_some() {
            // As much as fits: nobody waits for one who was waited for.
            drop(self.stream.try_write(&api::late_head(self.head.deadline)));
        }
        io::ErrorKind::TimedOut.into()
    }
}

impl Head {
    /// Takes note of bytes that came: of a head, unless a request is being answered.
    fn receive(&mut self, turn: &Turn) {
        self.look(turn);
        if !turn.is_answering() {
            self.began.get_or_insert_with(Instant::now);
        }
    }

    fn look(&mut self, turn: &Turn) {
        if self.before != turn.heads() {
            self.before = turn.heads();
            self.began = None;
        }
    }

    /// Ready when its time is over. The timer is left as it is when its head is complete, and set anew when it wakes up
    /// too early: most heads are there at once, and need none.
    fn poll_over(&mut self, turn: &Turn, context: &mut Context<'_>) -> Poll<()> {
        self.look(turn);
        loop {
            let silent = || turn.answered().map(|answered| answered + self.silence);
            let end = self.began.map(|began| began + self.deadline).or_else(silent);
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
                this.head.receive(&this.turn);
            }
            return read;
        }
        ready!(this.head.poll_over(&this.turn, context));
        Poll::Ready(Err(this.end()))
    }
}

impl Connection {
    /// What came of a write: while the hub stops, one that waits for too long fails.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.unsent = written.is_pending();
        if !self.unsent {
            self.stalled = None;
            return written;
        }
        if self.stopping.is_cancelled() {
            let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
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
        // The end of an answer: what comes next is not asked for again, so its time is set here.
        if this.head.poll_over(&this.turn, context).is_ready() {
            context.waker().wake_by_ref();
        }
        this.watch(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
