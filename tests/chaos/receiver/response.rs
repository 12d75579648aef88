//! The response of each behavior, and whether the hub must count it as delivered.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::journal::Journal;
use crate::topology::Behavior;

/// How many bytes of a response body the hub reads before the status decides.
const MAX_BODY_READ: usize = 64 << 10;
/// Longer than the timeout of any delivery.
const HANG_TIME: Duration = Duration::from_secs(60);

/// The result of responding.
pub(super) struct Responded {
    /// Sequence number taken just before the response was written.
    pub(super) sequence: u64,
    /// Whether the hub must count the attempt as delivered.
    pub(super) accepted: bool,
    /// Whether the connection stays open.
    pub(super) keep_alive: bool,
}

/// Responds with this behavior; `choice` selects a variant where the behavior has several.
pub(super) async fn respond(
    behavior: Behavior,
    choice: u64,
    stream: &mut TcpStream,
    journal: &Journal,
) -> Responded {
    let responder = Responder { stream, journal };
    match (behavior, choice % 2) {
        (Behavior::Healthy, _) => responder.accept("HTTP/1.1 204 No Content\r\n\r\n", true).await,
        (Behavior::Slow, 0) => {
            sleep(Duration::from_millis(800)).await;
            responder.accept("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true).await
        }
        (Behavior::Slow, _) => responder.trickle(10).await,
        (Behavior::Hang, _) => responder.hang().await,
        (Behavior::Trickle, _) => responder.trickle(100_000).await,
        (Behavior::Reset, 0) => responder.reset("").await,
        (Behavior::Reset, _) => responder.reset("HTTP/1.1 200 O").await,
        (Behavior::Endless, 0) => responder.endless("HTTP/1.1 200 OK\r\n\r\n", true).await,
        (Behavior::Endless, _) => responder.endless("HTTP/1.1 500 No\r\n\r\n", false).await,
        (Behavior::Malformed, _) => responder.malformed(choice / 2 % 8).await,
        (Behavior::Reject, 0) => {
            responder.reject("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno").await
        }
        (Behavior::Reject, _) => {
            responder.reject("HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").await
        }
    }
}

/// Writes a response without a body.
pub(super) async fn write_empty(stream: &mut TcpStream, status: &str) -> bool {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.is_ok()
}

struct Responder<'a> {
    stream: &'a mut TcpStream,
    journal: &'a Journal,
}

impl Responder<'_> {
    async fn write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// A complete 2xx response.
    async fn accept(mut self, text: &str, keep_alive: bool) -> Responded {
        let sequence = self.journal.next_sequence();
        let accepted = self.write(text).await;
        if !keep_alive {
            drop(self.stream.shutdown().await);
        }
        Responded { sequence, accepted, keep_alive: keep_alive && accepted }
    }

    /// A response that accepts nothing and is followed by a close.
    async fn reject_and_close(self, text: &str) -> Responded {
        Responded { keep_alive: false, ..self.reject(text).await }
    }

    async fn reject(mut self, text: &str) -> Responded {
        let sequence = self.journal.next_sequence();
        let keep_alive = self.write(text).await;
        Responded { sequence, accepted: false, keep_alive }
    }

    /// Writes nothing until the hub closes the connection.
    async fn hang(self) -> Responded {
        let sequence = self.journal.next_sequence();
        let mut buffer = [0; 16];
        let closed = self.stream.read(&mut buffer);
        drop(tokio::time::timeout(HANG_TIME, closed).await);
        Responded { sequence, accepted: false, keep_alive: false }
    }

    /// A body of `bytes` bytes, one every 100 ms; accepted if all of them were written.
    async fn trickle(mut self, bytes: usize) -> Responded {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
        let mut is_open = self.write(&head).await;
        let mut sequence = self.journal.next_sequence();
        for _ in 0..bytes {
            if !is_open {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            sequence = self.journal.next_sequence();
            is_open = self.write("o").await;
        }
        Responded { sequence, accepted: is_open, keep_alive: is_open }
    }

    async fn reset(self, text: &str) -> Responded {
        let sequence = self.journal.next_sequence();
        drop(self.stream.write_all(text.as_bytes()).await);
        drop(socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO)));
        Responded { sequence, accepted: false, keep_alive: false }
    }

    /// An endless body. A 2xx is accepted once the hub has read [`MAX_BODY_READ`].
    async fn endless(mut self, head: &str, is_success: bool) -> Responded {
        let sequence = self.journal.next_sequence();
        let (mut written, chunk) = (0, "x".repeat(16 << 10));
        let mut is_open = self.write(head).await;
        while is_open {
            is_open = self.write(&chunk).await;
            written += if is_open { chunk.len() } else { 0 };
        }
        Responded { sequence, accepted: is_success && written >= MAX_BODY_READ, keep_alive: false }
    }

    /// Variants 0 to 5 accept nothing; the others are unusual but valid, and accept.
    async fn malformed(self, variant: u64) -> Responded {
        match variant {
            0 => {
                let text = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ntruncated";
                self.reject_and_close(text).await
            }
            1 => {
                let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n";
                self.reject_and_close(text).await
            }
            2 => {
                let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
                self.reject_and_close(text).await
            }
            3 => self.reject_and_close("220 smtp.example.com ESMTP ready\r\n").await,
            4 => {
                let text = "HTTP/1.1 307 No\r\nLocation: /callback/0\r\nContent-Length: 0\r\n\r\n";
                self.reject(text).await
            }
            5 => {
                let text = "HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n0123456789";
                self.reject_and_close(text).await
            }
            6 => {
                let text =
                    "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
                self.accept(text, true).await
            }
            _ => self.accept("HTTP/1.1 200 OK\r\n\r\nuntil it is closed", false).await,
        }
    }
}
