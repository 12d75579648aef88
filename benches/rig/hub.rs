//! The hub under test: a process with an embedded Postgres.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::BoxError;
use super::client::KEY;
use super::processes::{Cpu, cpu_of};

/// High enough that the limit of open files, 20,000 on many machines, is reached first.
const MAX_STREAMS: &str = "20000";

/// A running hub.
pub(crate) struct Hub {
    pub(crate) child: Child,
    address: SocketAddr,
}

impl Hub {
    /// Starts the hub on a free port with its data below `directory`.
    pub(crate) async fn start(directory: &Path) -> Result<Self, BoxError> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Self::start_on(directory, SocketAddr::from(([127, 0, 0, 1], port))).await
    }

    /// Starts the hub on this address.
    pub(crate) async fn start_on(directory: &Path, address: SocketAddr) -> Result<Self, BoxError> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookhub"))
            .env_remove("DATABASE_URL")
            .env("HOOKHUB_LISTEN", address.to_string())
            .env("HOOKHUB_DATA_DIR", directory.join("data"))
            .env("HOOKHUB_ADMIN_KEY", KEY)
            .env("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8")
            .env("HOOKHUB_MAX_STREAMS", MAX_STREAMS)
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Result<u32, BoxError> {
        Ok(self.child.id().ok_or("the hub has ended")?)
    }

    /// CPU time of the hub and its Postgres.
    pub(crate) fn cpu(&self) -> Result<Cpu, BoxError> {
        cpu_of(self.pid()?)
    }

    /// Stops the hub gracefully.
    pub(crate) async fn stop(mut self) -> Result<(), BoxError> {
        let pid = i32::try_from(self.pid()?)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await??;
        Ok(())
    }
}
