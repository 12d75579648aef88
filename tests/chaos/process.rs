//! Starts programs that end with this process, however this process ends.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio::process::{Child, Command};

use super::BoxError;

/// The user that a program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAs {
    CurrentUser,
    /// A user that Postgres accepts. Postgres refuses to run as root.
    PostgresUser,
}

/// The user that owns Postgres' files when this process runs as root; `None` when it does not.
pub(super) fn postgres_user() -> Result<Option<User>, BoxError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Err("neither a user postgres nor a user nobody exists".into())
}

/// A command in its own process group: Ctrl-C does not reach it, and it gets `death_signal` when this process dies.
pub(super) fn command(
    program: impl AsRef<OsStr>,
    run_as: RunAs,
    death_signal: Signal,
) -> Result<Command, BoxError> {
    let mut command = Command::new("setpriv");
    command.arg(format!("--pdeathsig={}", death_signal.as_str().trim_start_matches("SIG")));
    let user = if run_as == RunAs::PostgresUser { postgres_user()? } else { None };
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).process_group(0).stdin(Stdio::null()).current_dir("/");
    command.kill_on_drop(true);
    Ok(command)
}

/// Appends the command's stdout and stderr to a file.
pub(super) fn log_to<'a>(
    command: &'a mut Command,
    file: &Path,
) -> Result<&'a mut Command, BoxError> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(command.stdout(file.try_clone()?).stderr(file))
}

/// Signals a child process; does nothing when the child has already been waited for.
pub(super) fn signal(child: &Child, signal: Signal) -> Result<(), BoxError> {
    if let Some(pid) = child.id() {
        kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
    }
    Ok(())
}
