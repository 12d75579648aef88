//! The dev receiver: agrees to handshakes, takes deliveries, verifies their signatures and answers by a script.

mod delivery;
mod room;
pub mod verification;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub use self::delivery::{Delivery, Distrust, Verified};
use self::room::Room;
use crate::domain::signing::secret::Secret;

/// How many deliveries wait to be looked at.
const KEPT: usize = 65_536;
/// Longer than a hub keeps an idle connection, so that it never sends on one that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How to receive.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Deliveries must be signed with one of these; with none, signatures are not looked at.
    pub secrets: Vec<Secret>,
    /// Status codes (200 to 599), one per delivery; the last one repeats. Empty: always 204.
    pub answers: Vec<u16>,
    /// How long to wait before each answer.
    pub delay: Duration,
    /// What `Retry-After` asks for, in seconds, when the answer is 429 or 503.
    pub retry_after_s: Option<u64>,
}

impl Default for ReceiverSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            secrets: Vec::new(),
            answers: Vec::new(),
            delay: Duration::ZERO,
            retry_after_s: None,
        }
    }
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    server: ServerHandle,
    room: web::Data<Room>,
    tasks: TaskTracker,
}

impl Receiver {
    /// Listens, and hands over each delivery once its answer is decided. When nobody takes them and their channel is
    /// full, further ones are answered all the same, and only counted.
    pub async fn start(settings: ReceiverSettings) -> io::Result<(Self, mpsc::Receiver<Delivery>)> {
        if let Some(odd) = settings.answers.iter().find(|code| !(200..=599).contains(*code)) {
            let refusal = format!("an answer is a status code from 200 to 599, not {odd}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let (seen, deliveries) = mpsc::channel(KEPT);
        let room = web::Data::new(Room::new(settings, seen));
        let shared = room.clone();
        let app =
            move || App::new().app_data(shared.clone()).default_service(web::to(room::receive));
        let server = HttpServer::new(app)
            .workers(1)
            .keep_alive(KEEP_ALIVE)
            .disable_signals()
            .listen(listener.into_std()?)?
            .run();
        let handle = server.handle();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the receiver broke off");
            }
        });
        tasks.close();
        Ok((Self { address, server: handle, room, tasks }, deliveries))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many deliveries were answered but not handed over, because nobody took them.
    pub fn untold(&self) -> u64 {
        self.room.untold()
    }

    /// Stops listening and drops what is open; who waits for an answer gets none.
    pub async fn stop(self) {
        self.server.stop(false).await;
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_none_is_refused_at_the_start() {
        let settings = ReceiverSettings { answers: vec![200, 100], ..ReceiverSettings::default() };
        let refusal = Receiver::start(settings).await.unwrap_err();
        assert_eq!(refusal.to_string(), "an answer is a status code from 200 to 599, not 100");
    }
}
