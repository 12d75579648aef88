//! The hub under test, as a process with a Postgres of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Anything;
use super::processes::{Cpu, cpu_of};

/// The key publishers use.
pub(super) const KEY: &str = "benchmark-admin-key-of-this-run";

/// A running hub.
pub(super) struct Hub {
    child: Child,
    address: SocketAddr,
}

impl Hub {
    /// Starts it on a free port with its data below `directory`.
    pub(super) async fn start(directory: &Path) -> Result<Self, Anything> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Self::start_on(directory, SocketAddr::from(([127, 0, 0, 1], port))).await
    }

    async fn start_on(directory: &Path, address: SocketAddr) -> Result<Self, Anything> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookhub"))
            .env_remove("DATABASE_URL")
            .env("HOOKHUB_LISTEN", address.to_string())
            .env("HOOKHUB_DATA_DIR", directory.join("data"))
            .env("HOOKHUB_ADMIN_KEY", KEY)
            .env("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8")
            .env("HOOKHUB_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("listening on") {
                return Ok(Self { child, address });
            }
        }
        Err("the hub did not start".into())
    }

    /// Where it answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it and its Postgres have used.
    pub(super) fn cpu(&self) -> Result<Cpu, Anything> {
        cpu_of(self.child.id().ok_or("the hub has ended")?)
    }

    /// Subscribes a callback to every event.
    pub(super) async fn subscribe(&self, callback_url: &str) -> Result<(), Anything> {
        let body = serde_json::json!({ "event_types": ["*"], "callback_url": callback_url });
        let answer = reqwest::Client::new_with_key()?
            .post(format!("http://{}/v1/subscriptions", self.address))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Ends it with SIGKILL and starts it again on the same data.
    pub(super) async fn kill_and_restart(&mut self, directory: &Path) -> Result<(), Anything> {
        self.child.kill().await?;
        *self = Self::start_on(directory, self.address).await?;
        Ok(())
    }

    /// Lets it stop by itself.
    pub(super) async fn stop(mut self) -> Result<(), Anything> {
        let pid = i32::try_from(self.child.id().ok_or("the hub has ended")?)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await??;
        Ok(())
    }
}

/// A client that speaks with the admin key.
pub(super) trait WithKey: Sized {
    /// The client.
    fn new_with_key() -> Result<Self, Anything>;
}

impl WithKey for reqwest::Client {
    fn new_with_key() -> Result<Self, Anything> {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {KEY}").parse()?);
        Ok(Self::builder().default_headers(headers).timeout(Duration::from_secs(30)).build()?)
    }
}
