//! The receivers: a separate process that accepts POSTs, checks them, and responds with the behavior that is set.

mod journal;
mod request;
mod response;

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookhub::domain::position::Position;
use hookhub::domain::signing::secret::{Secret, Signed};
use hookhub::domain::time::UnixMillis;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::journal::Journal;
pub(super) use self::journal::VIOLATION_PREFIX;
use self::request::Request;
use super::BoxError;
use super::attempt_record::AttemptRecord;
use super::topology::{self, Behavior, FULL_DISK_WEBHOOK};

/// The receiver of one webhook.
struct Receiver {
    secret: Secret,
    /// Index in [`Behavior::ALL`].
    behavior: AtomicUsize,
}

struct Receivers {
    all: Vec<Receiver>,
    journal: Journal,
}

/// Listens on a free port, prints the port, and serves until the parent closes its pipe.
pub(super) async fn run() -> Result<(), BoxError> {
    let new = |index| Receiver { secret: topology::secret(index), behavior: AtomicUsize::new(0) };
    let receivers = Arc::new(Receivers {
        all: (0..=FULL_DISK_WEBHOOK).map(new).collect(),
        journal: Journal::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut connections = JoinSet::new();
    let mut parent_exited =
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]).map(drop));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let receivers = Arc::clone(&receivers);
                let (stream, _) = accepted?;
                connections.spawn(async move { receivers.serve(stream).await });
                while connections.try_join_next().is_some() {}
            }
            _ = &mut parent_exited => return Ok(()),
        }
    }
}

impl Receivers {
    /// Serves the requests of one connection until a response ends it.
    async fn serve(&self, mut stream: TcpStream) {
        drop(stream.set_nodelay(true));
        let mut unread = Vec::new();
        while let Some(request) = request::read(&mut stream, &mut unread).await {
            let segments: Vec<&str> = request.path.split('/').skip(1).collect();
            let keep_alive = match segments.as_slice() {
                ["callback", index] => match self.find(index) {
                    Some((index, receiver)) => {
                        self.receive(index, receiver, &request, &mut stream).await
                    }
                    None => false,
                },
                ["behavior", index, behavior] => {
                    self.set_behavior(index, behavior);
                    respond_ok(&mut stream, "").await
                }
                ["journal", from] => {
                    let from = from.parse().unwrap_or_default();
                    respond_ok(&mut stream, &self.journal.lines_from(from)).await
                }
                _ => false,
            };
            if !keep_alive {
                return;
            }
        }
    }

    fn find(&self, index: &str) -> Option<(usize, &Receiver)> {
        let index = index.parse().ok()?;
        Some((index, self.all.get(index)?))
    }

    fn set_behavior(&self, index: &str, name: &str) {
        let behavior = Behavior::ALL.iter().position(|behavior| behavior.name() == name);
        if let (Some((_, receiver)), Some(behavior)) = (self.find(index), behavior) {
            receiver.behavior.store(behavior, Ordering::Relaxed);
        }
    }

    /// Checks a delivery, responds with the current behavior, and records the attempt.
    ///
    /// Returns whether the connection stays open.
    async fn receive(
        &self,
        webhook: usize,
        receiver: &Receiver,
        request: &Request,
        stream: &mut TcpStream,
    ) -> bool {
        let (now, received_seq) = (UnixMillis::now(), self.journal.next_sequence());
        let event = match verify(receiver, request, now) {
            Ok(event) => event,
            Err(violation) => {
                self.journal.record_violation(&format!("{}: {violation}", request.path));
                return response::write_empty(stream, "401 Unauthorized").await;
            }
        };
        if !self.journal.is_same_body(event, &request.body) {
            let violation = format!("the body of {event} differs from an earlier attempt");
            self.journal.record_violation(&violation);
        }
        let attempt = request.header("webhook-attempt").and_then(|text| text.parse().ok());
        let behavior = Behavior::ALL
            .get(receiver.behavior.load(Ordering::Relaxed))
            .unwrap_or(&Behavior::Healthy);
        let responded = response::respond(*behavior, received_seq, stream, &self.journal).await;
        self.journal.record(AttemptRecord {
            webhook,
            event,
            attempt: attempt.unwrap_or_default(),
            received_seq,
            responded_seq: responded.sequence,
            accepted: responded.accepted,
            received_ms: now.as_i64(),
        });
        responded.keep_alive
    }
}

/// Verifies the signature, and that the body is the event that the headers name. Returns the event's id.
fn verify(receiver: &Receiver, request: &Request, now: UnixMillis) -> Result<Position, String> {
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
        return Err(format!("webhook-id {} differs from the body's id", signed.id));
    }
    signed.id.parse().map_err(|_invalid| format!("{} is not an event id", signed.id))
}

/// Responds 200 to a request of the run itself.
async fn respond_ok(stream: &mut TcpStream, body: &str) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.is_ok()
}
