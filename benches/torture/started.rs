//! Starting programs so that they end with this one, whatever ends it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio::process::{Child, Command};

use super::Anything;

/// Who a program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// As this one.
    Us,
    /// As a user whom Postgres accepts: root is none.
    PostgresUser,
}

/// The user besides root that Postgres' files belong to; `None` when this program is not root.
pub(super) fn postgres_user() -> Result<Option<User>, Anything> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Err("there is neither a user postgres nor nobody".into())
}

/// A command for `program`, which gets `last` when this process dies, and Ctrl-C from nobody.
pub(super) fn command(
    program: impl AsRef<OsStr>,
    who: As,
    last: Signal,
) -> Result<Command, Anything> {
    let mut command = Command::new("setpriv");
    command.arg(format!("--pdeathsig={}", last.as_str().trim_start_matches("SIG")));
    let user = if who == As::PostgresUser { postgres_user()? } else { None };
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).process_group(0).stdin(Stdio::null()).current_dir("/");
    command.kill_on_drop(true);
    Ok(command)
}

/// Has a command write at the end of a file.
pub(super) fn logged<'a>(
    command: &'a mut Command,
    file: &Path,
) -> Result<&'a mut Command, Anything> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(command.stdout(file.try_clone()?).stderr(file))
}

/// Signals a process that this one started and has not waited for yet; what has ended is left alone.
pub(super) fn signal(child: &Child, signal: Signal) -> Result<(), Anything> {
    if let Some(pid) = child.id() {
        kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
    }
    Ok(())
}
