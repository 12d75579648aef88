//! Headless Chromium with one page.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const FLAGS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=390,844",
];

/// A browser; dropping the value ends all its processes.
#[derive(Debug)]
pub(crate) struct Chromium {
    child: Child,
    group: Pid,
    profile: TempDir,
}

impl Chromium {
    /// Opens a page.
    pub(crate) fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let said = File::create(said_in(&profile)).expect("a file");
        let child = Command::new(program())
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .process_group(0)
            .spawn()
            .expect("Chromium starts");
        let group = child.id().and_then(|id| i32::try_from(id).ok()).expect("a process id");
        Self { child, group: Pid::from_raw(group), profile }
    }

    /// The browser's output, for the log of a failed test.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(said_in(&self.profile)).unwrap_or_default()
    }

    /// Ends the browser and waits until it has exited.
    pub(crate) async fn close(mut self) {
        killpg(self.group, Signal::SIGKILL).expect("Chromium still runs");
        self.child.wait().await.expect("it ran");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // After `close` the process has already exited.
        if self.child.id().is_some() {
            killpg(self.group, Signal::SIGKILL).unwrap_or_default();
        }
    }
}

fn said_in(profile: &TempDir) -> PathBuf {
    profile.path().join("said")
}

/// The program that `HOOKHUB_CHROMIUM` names; `make browser` sets it.
fn program() -> OsString {
    let given = std::env::var_os("HOOKHUB_CHROMIUM").filter(|path| !path.is_empty());
    given.expect(
        "HOOKHUB_CHROMIUM names no Chromium; run `make browser` (Debian: apt-get install chromium)",
    )
}
