//! The Postgres server process: launch, readiness, shutdown.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::binaries::Binaries;
use super::error::EmbeddedError;
use super::readiness::{self, Readiness};
use super::server_log::ServerLog;
use super::user::ServerUser;
use super::{leftovers, socket};

/// The time that Postgres has to accept connections. It starts over whenever Postgres responds that it is not ready
/// yet.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a start is repeated while sessions of a killed Postgres still run.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_mins(1);
/// The time for an immediate shutdown before the process is killed.
const IMMEDIATE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const LEFTOVERS_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Log messages of Postgres while something of its predecessor still exists.
const LEFTOVER_MESSAGES: [&str; 2] =
    ["pre-existing shared memory block", "lock file \"postmaster.pid\" already"];

/// Passed on the command line, so that neither `postgresql.conf` nor `ALTER SYSTEM` overrides them.
const SETTINGS: &[(&str, &str)] = &[
    // Only the Unix socket.
    ("listen_addresses", ""),
    ("port", socket::PORT),
    // Committed data survives a crash of the machine.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    // One hub on a small machine, writing a busy log and reading its newest end.
    ("max_connections", "100"),
    ("shared_buffers", "256MB"),
    ("min_wal_size", "512MB"),
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "10min"),
    ("checkpoint_completion_target", "0.9"),
    ("autovacuum", "on"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // The log goes to the file that the hub opens.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("log_lock_waits", "on"),
    ("log_checkpoints", "off"),
    ("timezone", "UTC"),
];

#[derive(Debug)]
pub(super) struct Server {
    pub(super) binaries: Binaries,
    pub(super) user: ServerUser,
    pub(super) cluster: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: ServerLog,
}

impl Server {
    /// Starts Postgres and waits until it accepts connections. Retries for up to [`LEFTOVERS_TIMEOUT`] while sessions
    /// of a killed Postgres prevent the start.
    pub(super) async fn start(&self) -> Result<Running, EmbeddedError> {
        let deadline = Instant::now() + LEFTOVERS_TIMEOUT;
        loop {
            let mut running = self.launch().await?;
            match self.wait_until_ready(&mut running).await {
                Ok(()) => return Ok(running),
                Err(error) if Instant::now() < deadline && is_about_leftovers(&error) => {
                    tracing::info!("waiting for the sessions of a killed Postgres to end");
                    sleep(LEFTOVERS_POLL_INTERVAL).await;
                }
                Err(error) => {
                    running.stop(IMMEDIATE_SHUTDOWN_TIMEOUT).await;
                    return Err(error);
                }
            }
        }
    }

    /// Removes leftovers, rotates the log and starts the process. Does not wait until Postgres accepts connections.
    pub(super) async fn launch(&self) -> Result<Running, EmbeddedError> {
        leftovers::remove_all(&self.cluster, &self.socket_dir).await?;
        self.log.trim();
        let log_start = self.log.len();
        let log = self.log.open()?;
        let log_too = log.try_clone().map_err(EmbeddedError::io("open", &self.log.path))?;

        let program = self.binaries.postgres();
        let mut command = self.user.command(&program);
        command.arg("-D").arg(&self.cluster).arg("-k").arg(&self.socket_dir);
        command.args(
            SETTINGS.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]),
        );
        command.stdout(Stdio::from(log)).stderr(Stdio::from(log_too));
        match command.spawn() {
            Ok(child) => Ok(Running { child, log_start, since: Instant::now() }),
            Err(error) => Err(self.user.failed(&program, error.to_string())),
        }
    }

    /// Waits until Postgres accepts connections. Fails if the process ends first, or as [`Self::poll_until_ready`]
    /// does.
    async fn wait_until_ready(&self, running: &mut Running) -> Result<(), EmbeddedError> {
        tokio::select! {
            ready = self.poll_until_ready() => ready,
            status = running.wait() => {
                let last_output = self.log.last_output(running.log_start);
                Err(EmbeddedError::EndedAtStart { status, last_output, log: self.log.path.clone() })
            }
        }
    }

    /// Probes until Postgres accepts connections. Fails after [`READY_TIMEOUT`], which starts over whenever Postgres
    /// responds that it is not ready yet, as during recovery.
    async fn poll_until_ready(&self) -> Result<(), EmbeddedError> {
        let socket = socket::path_in(&self.socket_dir);
        let mut recovering = false;
        let mut deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let last_answer = match readiness::probe(&socket).await {
                Readiness::Ready => return Ok(()),
                Readiness::NotYet(said) => {
                    if !recovering {
                        tracing::info!(said, "waiting for the embedded Postgres");
                    }
                    recovering = true;
                    deadline = Instant::now() + READY_TIMEOUT;
                    said
                }
                Readiness::Failed(why) => why,
            };
            if Instant::now() >= deadline {
                let (seconds, log) = (READY_TIMEOUT.as_secs(), self.log.path.clone());
                return Err(EmbeddedError::NotReady { seconds, last_answer, log });
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Whether Postgres ended at its start because sessions of a killed Postgres still run.
fn is_about_leftovers(error: &EmbeddedError) -> bool {
    matches!(error, EmbeddedError::EndedAtStart { last_output, .. }
        if LEFTOVER_MESSAGES.iter().any(|words| last_output.contains(words)))
}

#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    log_start: u64,
    pub(super) since: Instant,
}

impl Running {
    /// Waits until the Postgres process ends, and returns its exit status as text. Cancel-safe.
    pub(super) async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// First a fast shutdown, after `deadline` an immediate one, at last SIGKILL. Returns after the process has ended.
    pub(super) async fn stop(mut self, deadline: Duration) {
        for (signal, limit) in
            [(Signal::SIGINT, deadline), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT)]
        {
            self.signal(signal);
            if timeout(limit, self.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(%signal, ?limit, "the embedded Postgres did not stop in time");
        }
        if let Err(error) = self.child.kill().await {
            tracing::error!(%error, "cannot kill the embedded Postgres");
        }
    }

    /// Sends `signal` to the Postgres process. Does nothing if the process has ended.
    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            tracing::warn!(%error, %signal, "cannot signal the embedded Postgres");
        }
    }
}
