//! How each mood answers, and whether that is an answer that takes the event.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::journal::Journal;
use crate::cast::Mood;

/// Of an answer's body the hub reads so much; then the status decides.
const READ_BY_THE_HUB: usize = 64 << 10;
/// Longer than any delivery may take.
const FOREVER: Duration = Duration::from_secs(60);

/// What came of an answer.
pub(super) struct Given {
    /// The turn at which it was given out of hand.
    pub(super) turn: u64,
    /// Whether the event was taken.
    pub(super) accepted: bool,
    /// Whether the connection can be used again.
    pub(super) goes_on: bool,
}

/// Answers in this mood; `dice` chooses where a mood has more than one way.
pub(super) async fn give(
    mood: Mood,
    dice: u64,
    stream: &mut TcpStream,
    journal: &Journal,
) -> Given {
    let hand = Hand { stream, journal };
    match (mood, dice % 2) {
        (Mood::Good, _) => hand.whole("HTTP/1.1 204 No Content\r\n\r\n", true).await,
        (Mood::Slow, 0) => {
            sleep(Duration::from_millis(800)).await;
            hand.whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true).await
        }
        (Mood::Slow, _) => hand.in_drops(10).await,
        (Mood::Hang, _) => hand.nothing().await,
        (Mood::Drip, _) => hand.in_drops(100_000).await,
        (Mood::Reset, 0) => hand.reset("").await,
        (Mood::Reset, _) => hand.reset("HTTP/1.1 200 O").await,
        (Mood::Flood, 0) => hand.pour("HTTP/1.1 200 OK\r\n\r\n", true).await,
        (Mood::Flood, _) => hand.pour("HTTP/1.1 500 No\r\n\r\n", false).await,
        (Mood::Lie, _) => hand.lie(dice / 2 % 8).await,
        (Mood::Refuse, 0) => hand.refuse("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno").await,
        (Mood::Refuse, _) => {
            hand.refuse("HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").await
        }
    }
}

/// An answer without a body.
pub(super) async fn plainly(stream: &mut TcpStream, status: &str) -> bool {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.is_ok()
}

struct Hand<'a> {
    stream: &'a mut TcpStream,
    journal: &'a Journal,
}

impl Hand<'_> {
    async fn write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// A whole 2xx answer.
    async fn whole(mut self, text: &str, goes_on: bool) -> Given {
        let turn = self.journal.turn();
        let accepted = self.write(text).await;
        if !goes_on {
            drop(self.stream.shutdown().await);
        }
        Given { turn, accepted, goes_on: goes_on && accepted }
    }

    /// What takes nothing, with the connection closed after it.
    async fn short(self, text: &str) -> Given {
        Given { goes_on: false, ..self.refuse(text).await }
    }

    async fn refuse(mut self, text: &str) -> Given {
        let turn = self.journal.turn();
        let goes_on = self.write(text).await;
        Given { turn, accepted: false, goes_on }
    }

    /// Waits until the hub has had enough.
    async fn nothing(self) -> Given {
        let turn = self.journal.turn();
        let mut nothing = [0; 16];
        let gone = self.stream.read(&mut nothing);
        drop(tokio::time::timeout(FOREVER, gone).await);
        Given { turn, accepted: false, goes_on: false }
    }

    /// A drop every tenth of a second; taken if they were all let out.
    async fn in_drops(mut self, drops: usize) -> Given {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {drops}\r\n\r\n");
        let mut goes_on = self.write(&head).await;
        let mut turn = self.journal.turn();
        for _ in 0..drops {
            if !goes_on {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            turn = self.journal.turn();
            goes_on = self.write("o").await;
        }
        Given { turn, accepted: goes_on, goes_on }
    }

    async fn reset(self, begun: &str) -> Given {
        let turn = self.journal.turn();
        drop(self.stream.write_all(begun.as_bytes()).await);
        drop(socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO)));
        Given { turn, accepted: false, goes_on: false }
    }

    /// A body without an end.
    async fn pour(mut self, head: &str, takes: bool) -> Given {
        let turn = self.journal.turn();
        let (mut poured, piece) = (0, "x".repeat(16 << 10));
        let mut goes_on = self.write(head).await;
        while goes_on {
            goes_on = self.write(&piece).await;
            poured += if goes_on { piece.len() } else { 0 };
        }
        Given { turn, accepted: takes && poured >= READ_BY_THE_HUB, goes_on: false }
    }

    /// The first six take nothing.
    async fn lie(self, which: u64) -> Given {
        match which {
            0 => self.short("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly so much").await,
            1 => self.short("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n").await,
            2 => {
                let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
                self.short(text).await
            }
            3 => self.short("220 smtp.example.com ESMTP ready\r\n").await,
            4 => {
                let text = "HTTP/1.1 307 No\r\nLocation: /callback/0\r\nContent-Length: 0\r\n\r\n";
                self.refuse(text).await
            }
            5 => self.short("HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n0123456789").await,
            6 => {
                let text =
                    "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
                self.whole(text, true).await
            }
            _ => self.whole("HTTP/1.1 200 OK\r\n\r\nuntil it is closed", false).await,
        }
    }
}
