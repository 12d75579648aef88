//! `hookhub receive`, a test receiver: it completes verification, checks signatures and responds by a script.

mod delivery;
mod handler;
mod verification;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub use self::delivery::{Delivery, SignatureCheck, VerificationFailure};
use self::handler::ReceiverState;
use crate::domain::signing::secret::Secret;

/// Deliveries that wait in the channel; more are dropped and counted.
const MAX_QUEUED_DELIVERIES: usize = 65_536;
/// Longer than a hub keeps an idle connection, so that the hub never sends on a connection that this receiver closes.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// Port 0 takes a free port.
    pub listen: SocketAddr,
    /// Deliveries must be signed with one of these; if empty, signatures are not checked.
    pub secrets: Vec<Secret>,
    /// Status codes (200 to 599), one per delivery; the last repeats. Empty: always 204.
    pub answers: Vec<u16>,
    /// The time before each response.
    pub delay: Duration,
    /// `Retry-After` in seconds, sent with 429 and 503.
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

#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    server: ServerHandle,
    state: web::Data<ReceiverState>,
    tasks: TaskTracker,
}

impl Receiver {
    /// Each delivery goes to the channel before its response. If the channel is full, the delivery still gets its response,
    /// and [`Self::dropped`] counts it. Fails if the address cannot be bound, or for a status code that is not allowed.
    pub async fn start(settings: ReceiverSettings) -> io::Result<(Self, mpsc::Receiver<Delivery>)> {
        if let Some(odd) = settings.answers.iter().find(|code| !(200..=599).contains(*code)) {
            let refusal = format!("expected a status code from 200 to 599, not {odd}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let (sender, deliveries) = mpsc::channel(MAX_QUEUED_DELIVERIES);
        let state = web::Data::new(ReceiverState::new(settings, sender));
        let shared = state.clone();
        let app =
            move || App::new().app_data(shared.clone()).default_service(web::to(handler::receive));
        let server = HttpServer::new(app)
            .workers(1)
            .keep_alive(KEEP_ALIVE_TIMEOUT)
            .disable_signals()
            .listen(listener.into_std()?)?
            .run();
        let handle = server.handle();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the receiver failed");
            }
        });
        tasks.close();
        Ok((Self { address, server: handle, state, tasks }, deliveries))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many deliveries are missing from the channel because it was full.
    pub fn dropped(&self) -> u64 {
        self.state.dropped()
    }

    /// Stops accepting connections and closes the open ones, without waiting for running responses.
    pub async fn stop(self) {
        self.server.stop(false).await;
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_invalid_status_code_is_refused_at_the_start() {
        let settings = ReceiverSettings { answers: vec![200, 100], ..ReceiverSettings::default() };
        let refusal = Receiver::start(settings).await.unwrap_err();
        assert_eq!(refusal.to_string(), "expected a status code from 200 to 599, not 100");
    }
}
