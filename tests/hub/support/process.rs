//! The hookhub program as a child process, which can be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::client::Client;
use super::hub::{ADMIN_KEY, MASTER_KEY};
use super::{eventually, in_time};

/// The environment variables of a process; only `PATH` is inherited.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Settings of a hub on a free port that may call this machine and retries every second.
    pub(crate) fn for_hub(data_dir: &Path) -> Self {
        Self::default()
            .with("HOOKHUB_LISTEN", "127.0.0.1:0")
            .with("HOOKHUB_DATA_DIR", &data_dir.display().to_string())
            .with("HOOKHUB_ADMIN_KEY", ADMIN_KEY)
            .with("HOOKHUB_MASTER_KEY", MASTER_KEY)
            .with("HOOKHUB_ALLOW_TARGETS", "127.0.0.0/8")
            .with("HOOKHUB_RETRY_SCHEDULE_S", "1")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }
}

/// A running hookhub command.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: JoinSet<()>,
}

impl Program {
    pub(crate) fn start(arguments: &[&str], environment: &Environment) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookhub"))
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(environment.0.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let (lines, mut readers) = (Arc::default(), JoinSet::new());
        readers.spawn(collect(child.stdout.take().expect("piped"), Arc::clone(&lines)));
        readers.spawn(collect(child.stderr.take().expect("piped"), Arc::clone(&lines)));
        Self { child, lines, readers }
    }

    pub(crate) fn pid(&self) -> i32 {
        let pid = self.child.id().expect("a running program");
        i32::try_from(pid).expect("a process id")
    }

    /// Everything written so far to stdout and stderr.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits for a line that contains `wanted`.
    pub(crate) async fn wait_for_line(&self, wanted: &str) -> String {
        let find = async || {
            self.output().lines().find(|line| line.contains(wanted)).map(ToOwned::to_owned)
        };
        eventually(wanted, find).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("a running program");
    }

    /// Waits until the program exits; returns its status and all output.
    pub(crate) async fn wait_for_end(mut self) -> (ExitStatus, String) {
        let status = in_time("the program exits", self.child.wait()).await.expect("an exit status");
        while self.readers.join_next().await.is_some() {}
        (status, self.output())
    }

    /// `kill -9`; returns once the process has exited.
    pub(crate) async fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end().await;
    }
}

async fn collect(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// A `hookhub serve` that is ready.
#[derive(Debug)]
pub(crate) struct HubProcess {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
}

impl HubProcess {
    pub(crate) async fn start(environment: &Environment) -> Self {
        let program = Program::start(&["serve"], environment);
        let line = program.wait_for_line("listening on http://").await;
        let after = line.split("listening on http://").nth(1).unwrap_or_default();
        let end = after
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
            .unwrap_or(after.len());
        let address = after.split_at(end).0.parse().expect(&line);
        Self { program, address, client: Client::new(address, ADMIN_KEY) }
    }
}
