//! A hub node, restarted whenever it is not meant to be down.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::timeout;

use super::BoxError;
use super::client::KEY;
use super::clock::FakeClock;
use super::process::{self, RunAs};

/// The encryption key of all nodes.
const MASTER_KEY: &str = "746f72747572652d6d61737465722d6b65792d6f662d616c6c2d6e6f6465732d";

/// Ports below the range for outgoing connections, so that a node finds its own port free when it restarts.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Time limit of a graceful stop: the node's deadline of 5 s, and the waits beyond it.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct NodeConfig {
    /// Index of the node, from 0.
    pub(super) index: usize,
    pub(super) data: PathBuf,
    /// File for stdout and stderr.
    pub(super) log: PathBuf,
    /// URL of the shared Postgres; without it the node runs its embedded one.
    pub(super) database_url: Option<String>,
    /// The node's own wall clock, if it has one.
    pub(super) clock: Option<FakeClock>,
}

/// A `hookhub serve` that keeps its address and data when it restarts.
pub(super) struct Node {
    config: NodeConfig,
    address: SocketAddr,
    child: Option<Child>,
    /// Whether an exit is unexpected.
    should_run: bool,
}

impl Node {
    /// Starts the node without waiting until it is ready.
    pub(super) fn start(config: NodeConfig) -> Result<Self, BoxError> {
        let mut node = Self { config, address: free_address()?, child: None, should_run: true };
        node.launch()?;
        Ok(node)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn launch(&mut self) -> Result<(), BoxError> {
        let program = Path::new(env!("CARGO_BIN_EXE_hookhub"));
        // A node with an embedded Postgres must stop that Postgres in order.
        let death_signal =
            if self.config.database_url.is_some() { Signal::SIGKILL } else { Signal::SIGTERM };
        let mut command = process::command(program, RunAs::CurrentUser, death_signal)?;
        command
            .arg("serve")
            .env_remove("DATABASE_URL")
            .envs(self.config.database_url.iter().map(|url| ("DATABASE_URL", url)))
            .envs(self.config.clock.iter().flat_map(FakeClock::environment))
            .env("HOOKHUB_LISTEN", self.address.to_string())
            .env("HOOKHUB_DATA_DIR", &self.config.data)
            .env("HOOKHUB_ADMIN_KEY", KEY)
            .env("HOOKHUB_MASTER_KEY", MASTER_KEY)
            .env("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8")
            .env("HOOKHUB_RETRY_SCHEDULE_S", "1,1,2")
            .env("HOOKHUB_GIVE_UP_AFTER_S", "86400")
            .env("HOOKHUB_STOP_DEADLINE_S", "5");
        self.child = Some(process::log_to(&mut command, &self.config.log)?.spawn()?);
        self.should_run = true;
        Ok(())
    }

    /// The log lines with an error or a panic. No scheduled fault explains these.
    pub(super) fn logged_errors(&self) -> Result<Vec<String>, BoxError> {
        let log = std::fs::read_to_string(&self.config.log)?;
        let lines =
            log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at"));
        Ok(lines.map(|line| format!("node {} logged: {line}", self.config.index)).collect())
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) -> Result<(), BoxError> {
        self.should_run = false;
        if let Some(mut child) = self.child.take() {
            let pid = child.id();
            child.kill().await?;
            pid.into_iter().for_each(FakeClock::remove_shared_memory);
        }
        Ok(())
    }

    pub(super) fn start_if_down(&mut self) -> Result<(), BoxError> {
        if self.child.is_none() { self.launch() } else { Ok(()) }
    }

    /// Sends a signal, unless the node is down.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        self.child.as_ref().map_or(Ok(()), |child| process::signal(child, signal))
    }

    /// Restarts the node if it has exited unexpectedly, and returns the exit status.
    pub(super) fn restart_if_exited(&mut self) -> Result<Option<ExitStatus>, BoxError> {
        let Some(child) = self.child.as_mut().filter(|_| self.should_run) else { return Ok(None) };
        let exited = child.try_wait()?;
        if exited.is_some() {
            self.launch()?;
        }
        Ok(exited)
    }

    pub(super) fn clock(&self) -> Option<&FakeClock> {
        self.config.clock.as_ref()
    }

    /// SIGTERM.
    pub(super) fn request_stop(&mut self) -> Result<(), BoxError> {
        self.should_run = false;
        self.signal(Signal::SIGTERM)
    }

    /// Waits until a node that got SIGTERM has exited. Returns a violation when the stop was not graceful.
    pub(super) async fn wait_until_stopped(&mut self) -> Option<String> {
        let mut child = self.child.take()?;
        let (index, pid) = (self.config.index, child.id());
        let exited = timeout(STOP_TIMEOUT, child.wait()).await;
        pid.into_iter().for_each(FakeClock::remove_shared_memory);
        match exited {
            // Status 1: the node had not started yet, because it had no database.
            Ok(Ok(status)) if matches!(status.code(), Some(0 | 1)) => None,
            Ok(exited) => Some(format!("node {index} did not stop gracefully: {exited:?}")),
            Err(_elapsed) => {
                drop(child.kill().await);
                Some(format!("node {index} did not stop within {STOP_TIMEOUT:?}"))
            }
        }
    }
}

fn free_address() -> Result<SocketAddr, BoxError> {
    for _ in 0..1_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port".into())
}
