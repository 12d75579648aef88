//! A hub node, kept running unless it is meant to be down.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::timeout;

use super::Anything;
use super::client::KEY;
use super::clock::Clock;
use super::started::{self, As};

/// What all nodes seal with.
const MASTER_KEY: &str = "746f72747572652d6d61737465722d6b65792d6f662d616c6c2d6e6f6465732d";

/// Below the ports that the system gives to outgoing connections, so that a node that is down finds its own again.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A stop in order may take so long: its deadline of 5 s, and then what it waits for beyond that.
const END: Duration = Duration::from_secs(20);

/// What a node is started with.
pub(super) struct Setup {
    /// Which it is, from 0.
    pub(super) index: usize,
    /// Its data directory.
    pub(super) data: PathBuf,
    /// Where what it says goes.
    pub(super) log: PathBuf,
    /// The way to Postgres; without it the node has one of its own.
    pub(super) database_url: Option<String>,
    /// A clock of its own.
    pub(super) clock: Option<Clock>,
}

/// `hookhub serve`, over and over.
pub(super) struct Node {
    setup: Setup,
    address: SocketAddr,
    child: Option<Child>,
    wanted: bool,
}

impl Node {
    /// Starts it; it is not ready yet.
    pub(super) fn start(setup: Setup) -> Result<Self, Anything> {
        let mut node = Self { setup, address: free_address()?, child: None, wanted: true };
        node.launch()?;
        Ok(node)
    }

    /// Where it answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn launch(&mut self) -> Result<(), Anything> {
        let program = Path::new(env!("CARGO_BIN_EXE_hookhub"));
        // One with a Postgres of its own ends that in order.
        let last =
            if self.setup.database_url.is_some() { Signal::SIGKILL } else { Signal::SIGTERM };
        let mut command = started::command(program, As::Us, last)?;
        command
            .arg("serve")
            .env_remove("DATABASE_URL")
            .envs(self.setup.database_url.iter().map(|url| ("DATABASE_URL", url)))
            .envs(self.setup.clock.iter().flat_map(Clock::environment))
            .env("HOOKHUB_LISTEN", self.address.to_string())
            .env("HOOKHUB_DATA_DIR", &self.setup.data)
            .env("HOOKHUB_ADMIN_KEY", KEY)
            .env("HOOKHUB_MASTER_KEY", MASTER_KEY)
            .env("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8")
            .env("HOOKHUB_RETRY_SCHEDULE_S", "1,1,2")
            .env("HOOKHUB_GIVE_UP_AFTER_S", "86400")
            .env("HOOKHUB_STOP_DEADLINE_S", "5");
        self.child = Some(started::logged(&mut command, &self.setup.log)?.spawn()?);
        self.wanted = true;
        Ok(())
    }

    /// What it says that no fault from outside explains.
    pub(super) fn confessions(&self) -> Result<Vec<String>, Anything> {
        let log = std::fs::read_to_string(&self.setup.log)?;
        let lines =
            log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at"));
        Ok(lines.map(|line| format!("node {} says: {line}", self.setup.index)).collect())
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) -> Result<(), Anything> {
        self.wanted = false;
        if let Some(mut child) = self.child.take() {
            let pid = child.id();
            child.kill().await?;
            pid.into_iter().for_each(Clock::tidy_up_after);
        }
        Ok(())
    }

    /// Up again.
    pub(super) fn run(&mut self) -> Result<(), Anything> {
        if self.child.is_none() { self.launch() } else { Ok(()) }
    }

    /// A signal to it, unless it is down.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Anything> {
        self.child.as_ref().map_or(Ok(()), |child| started::signal(child, signal))
    }

    /// Starts it again if it has ended by itself; says how it ended.
    pub(super) fn look_after(&mut self) -> Result<Option<ExitStatus>, Anything> {
        let Some(child) = self.child.as_mut().filter(|_| self.wanted) else { return Ok(None) };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.launch()?;
        }
        Ok(ended)
    }

    /// Its clock, if it has one of its own.
    pub(super) fn clock(&self) -> Option<&Clock> {
        self.setup.clock.as_ref()
    }

    /// SIGTERM.
    pub(super) fn ask_to_end(&mut self) -> Result<(), Anything> {
        self.wanted = false;
        self.signal(Signal::SIGTERM)
    }

    /// Waits for the end of a node that was asked to; says so if that is no end in order.
    pub(super) async fn until_ended(&mut self) -> Option<String> {
        let mut child = self.child.take()?;
        let (index, pid) = (self.setup.index, child.id());
        let ended = timeout(END, child.wait()).await;
        pid.into_iter().for_each(Clock::tidy_up_after);
        match ended {
            // 1: it had not yet started, for want of a database.
            Ok(Ok(status)) if matches!(status.code(), Some(0 | 1)) => None,
            Ok(ended) => Some(format!("node {index} was to stop in order, and: {ended:?}")),
            Err(_elapsed) => {
                drop(child.kill().await);
                Some(format!("node {index} was to stop, and did not within {END:?}"))
            }
        }
    }
}

fn free_address() -> Result<SocketAddr, Anything> {
    for _ in 0..1_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port".into())
}
