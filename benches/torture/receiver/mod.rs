//! The receivers: a process of its own that takes POSTs in every mood, checks them, and keeps a journal.

mod answer;
mod journal;

mod request;

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookhub::domain::position::Position;
use hookhub::domain::signing::secret::{Secret, Signed};
use hookhub::domain::time::UnixMillis;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(super) use self::journal::COMPLAINT;
use self::journal::Journal;
use self::request::Request;
use super::Anything;
use super::arrival::Arrival;
use super::cast::{self, DISK, Mood};

/// One receiver.
struct Receiver {
    secret: Secret,
    /// Its place in [`Mood::ALL`].
    mood: AtomicUsize,
}

/// All of them.
struct Receivers {
    all: Vec<Receiver>,
    journal: Journal,
}

/// Listens on a free port, prints it, and receives until its parent's pipe closes.
pub(super) async fn run() -> Result<(), Anything> {
    let new = |index| Receiver { secret: cast::secret(index), mood: AtomicUsize::new(0) };
    let receivers =
        Arc::new(Receivers { all: (0..=DISK).map(new).collect(), journal: Journal::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut connections = JoinSet::new();
    let mut parent_gone =
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]).map(drop));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let receivers = Arc::clone(&receivers);
                let (stream, _) = accepted?;
                connections.spawn(async move { receivers.serve(stream).await });
                while connections.try_join_next().is_some() {}
            }
            _ = &mut parent_gone => return Ok(()),
        }
    }
}

impl Receivers {
    /// Answers one request after the other, until a mood ends the connection.
    async fn serve(&self, mut stream: TcpStream) {
        drop(stream.set_nodelay(true));
        let mut unread = Vec::new();
        while let Some(request) = request::read(&mut stream, &mut unread).await {
            let words: Vec<&str> = request.path.split('/').skip(1).collect();
            let goes_on = match words.as_slice() {
                ["callback", index] => match self.of(index) {
                    Some((index, receiver)) => {
                        self.receive(index, receiver, &request, &mut stream).await
                    }
                    None => false,
                },
                ["mood", index, mood] => {
                    self.set_mood(index, mood);
                    with_body(&mut stream, "").await
                }
                ["journal", from] => {
                    let from = from.parse().unwrap_or_default();
                    with_body(&mut stream, &self.journal.after(from)).await
                }
                _ => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn of(&self, index: &str) -> Option<(usize, &Receiver)> {
        let index = index.parse().ok()?;
        Some((index, self.all.get(index)?))
    }

    fn set_mood(&self, index: &str, name: &str) {
        let place = Mood::ALL.iter().position(|mood| mood.name() == name);
        if let (Some((_, receiver)), Some(place)) = (self.of(index), place) {
            receiver.mood.store(place, Ordering::Relaxed);
        }
    }

    /// Takes a delivery as the mood is, and notes it. Whether the connection can be used again.
    async fn receive(
        &self,
        callback: usize,
        receiver: &Receiver,
        request: &Request,
        stream: &mut TcpStream,
    ) -> bool {
        let (now, arrived) = (UnixMillis::now(), self.journal.turn());
        let event = match check(receiver, request, now) {
            Ok(event) => event,
            Err(fault) => {
                self.journal.complain(&format!("{}: {fault}", request.path));
                return answer::plainly(stream, "401 Unauthorized").await;
            }
        };
        if !self.journal.is_same_body(event, &request.body) {
            self.journal.complain(&format!("{event} came with another body than before"));
        }
        let attempt = request.header("webhook-attempt").and_then(|text| text.parse().ok());
        let mood = Mood::ALL.get(receiver.mood.load(Ordering::Relaxed)).unwrap_or(&Mood::Good);
        let given = answer::give(*mood, arrived, stream, &self.journal).await;
        self.journal.note(Arrival {
            callback,
            event,
            attempt: attempt.unwrap_or_default(),
            arrived,
            answered: given.turn,
            accepted: given.accepted,
            at_ms: now.as_i64(),
        });
        given.goes_on
    }
}

/// What was sent is the event it says it is, and signed by the hub.
fn check(receiver: &Receiver, request: &Request, now: UnixMillis) -> Result<Position, String> {
    let header = |name| request.header(name).ok_or_else(|| format!("{name} is missing"));
    let signed = Signed {
        id: header("webhook-id")?,
        timestamp: header("webhook-timestamp")?,
        signature: header("webhook-signature")?,
    };
    let verified = receiver.secret.verify(&signed, &request.body, now);
    verified.map_err(|error| error.to_string())?;
    let body: serde_json::Value =
        serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    if body.get("id").and_then(|id| id.as_str()) != Some(signed.id) {
        return Err(format!("webhook-id {} is not the body's", signed.id));
    }
    signed.id.parse().map_err(|_no_id| format!("{} is no event id", signed.id))
}

/// Answers the harness itself.
async fn with_body(stream: &mut TcpStream, body: &str) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.is_ok()
}
