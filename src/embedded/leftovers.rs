//! Removes what a killed hub or a killed Postgres left on the cluster.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::error::EmbeddedError;
use super::socket;

/// The time that an orphaned Postgres has for each kind of shutdown: fast, then immediate.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stops a Postgres that still runs on `cluster`, and removes files that would prevent a new one from starting.
///
/// The caller must hold the lock of the data directory and run no Postgres of its own.
pub(super) async fn remove_all(cluster: &Path, socket_dir: &Path) -> Result<(), EmbeddedError> {
    let pid_file = cluster.join("postmaster.pid");
    match fs::read_to_string(&pid_file) {
        Ok(text) => match first_pid(&text) {
            Some(pid) if serves(pid, cluster) => stop_orphan(pid, cluster).await?,
            // The server is dead. Postgres notices that itself, and finds in the file which shared memory to check.
            Some(pid) if !process_dir(pid).exists() => {}
            // Another process has this id now, and Postgres would refuse to start because of it.
            Some(_) | None => remove(&pid_file)?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(EmbeddedError::io("read", &pid_file)(error)),
    }
    remove(&socket::path_in(socket_dir))?;
    remove(&socket::lock_path_in(socket_dir))
}

/// The process id in `postmaster.pid`. Single-user Postgres writes a negative number; the result is positive.
fn first_pid(text: &str) -> Option<i32> {
    text.lines().next()?.trim().parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 1)
}

/// Whether the process `pid` is a running Postgres on this cluster, and not an unrelated process that got the same id.
fn serves(pid: i32, cluster: &Path) -> bool {
    let process = process_dir(pid);
    let is_postgres =
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "postgres");
    // The working directory proves it, but root without CAP_SYS_PTRACE (as in a container) may not read it.
    is_postgres && (same_dir(&process.join("cwd"), cluster) || was_started_on(&process, cluster))
}

/// Whether both paths lead to the same directory, through symbolic links too.
fn same_dir(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Whether the command line in `/proc` contains `-D <cluster>`; false if it cannot be read.
fn was_started_on(process: &Path, cluster: &Path) -> bool {
    let Ok(line) = fs::read(process.join("cmdline")) else { return false };
    let words: Vec<&OsStr> = line.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    words.windows(2).any(|pair| pair == [OsStr::new("-D"), cluster.as_os_str()])
}

fn process_dir(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// First a fast shutdown, then an immediate one. Fails if Postgres still runs after both.
async fn stop_orphan(pid: i32, cluster: &Path) -> Result<(), EmbeddedError> {
    tracing::warn!(pid, "stopping the Postgres that a killed hub left running");
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(still_there(pid, cluster, error.to_string())),
        }
        let deadline = Instant::now() + ORPHAN_TIMEOUT;
        while Instant::now() < deadline {
            if !serves(pid, cluster) {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    let why = format!("SIGINT and SIGQUIT, {} s each", ORPHAN_TIMEOUT.as_secs());
    Err(still_there(pid, cluster, why))
}

fn still_there(pid: i32, cluster: &Path, why: String) -> EmbeddedError {
    EmbeddedError::Orphan { pid, cluster: cluster.to_owned(), why }
}

/// Removes a file. A missing file is not an error.
fn remove(path: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_is_the_first_line_whatever_its_sign() {
        assert_eq!(first_pid("4711\n/data\n"), Some(4711));
        assert_eq!(first_pid("-4711\n"), Some(4711));
        assert_eq!(first_pid(""), None);
        assert_eq!(first_pid("1\n"), None);
    }

    #[test]
    fn an_unrelated_process_is_not_mistaken_for_postgres() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(!serves(me, Path::new("/")));
        assert!(process_dir(me).exists());
    }
}
