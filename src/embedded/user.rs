//! The user that Postgres runs as: the hub's own or, if the hub is root, an unprivileged one.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User, getegid, geteuid};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::error::EmbeddedError;
use super::server_log::last_lines;

/// Candidates, in this order, when root creates a new cluster.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

#[derive(Debug, Clone, Copy)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    gid: u32,
    pub(super) hub_is_root: bool,
}

impl ServerUser {
    /// The hub's own user or, if that is root, an unprivileged one. Fails if the system has none.
    pub(super) fn for_new_cluster() -> Result<Self, EmbeddedError> {
        let (uid, gid) = (geteuid(), getegid());
        if !uid.is_root() {
            return Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), hub_is_root: false });
        }
        UNPRIVILEGED
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), hub_is_root: true })
            .ok_or(EmbeddedError::NoUnprivilegedUser)
    }

    /// The owner of a cluster, because only the owner can run it. Fails if that is root, or if the hub is neither the
    /// owner nor root.
    pub(super) fn owner_of(cluster: &Path) -> Result<Self, EmbeddedError> {
        let metadata = fs::metadata(cluster).map_err(EmbeddedError::io("look at", cluster))?;
        let (hub, owner) = (geteuid(), metadata.uid());
        if owner == 0 || (!hub.is_root() && owner != hub.as_raw()) {
            return Err(EmbeddedError::ForeignCluster { cluster: cluster.to_owned(), owner });
        }
        Ok(Self { uid: owner, gid: metadata.gid(), hub_is_root: hub.is_root() })
    }

    /// Gives `path` to this user. Does nothing unless the hub is root. Changes a symbolic link itself, not its target.
    pub(super) fn chown(self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.hub_is_root {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedError::io("change owner of", path))
    }

    /// Sets the group only; the owner of the directory stays.
    pub(super) fn chown_group(self, path: &Path) -> Result<(), EmbeddedError> {
        lchown(path, None, Some(self.gid)).map_err(EmbeddedError::io("change group of", path))
    }

    /// A command that runs as this user, without the hub's standard input, environment and working directory.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // A separate process group: Ctrl-C must reach only the hub, which decides when Postgres stops.
        command
            .process_group(0)
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        if self.hub_is_root {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Runs a command with the standard input `input`, and returns its standard output. If the command fails, the error
    /// has the last lines of its standard error. After `deadline` kills the process group and fails.
    pub(super) async fn run(
        self,
        mut command: Command,
        input: &str,
        deadline: Duration,
    ) -> Result<String, EmbeddedError> {
        let program = PathBuf::from(command.as_std().get_program());
        let failed = |why: String| self.failed(&program, why);

        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let group = child.id();
        let stdin = child.stdin.take();
        let finish = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read everything reports the reason itself.
                if let Err(error) = stdin.write_all(input.as_bytes()).await {
                    tracing::debug!(%error, "a Postgres program did not read its input");
                }
            }
            child.wait_with_output().await
        };
        match timeout(deadline, finish).await {
            Ok(Ok(output)) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(Ok(output)) => {
                Err(failed(format!("{}: {}", output.status, last_lines(&output.stderr))))
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_elapsed) => {
                kill_group(group);
                Err(failed(format!("not done after {} s", deadline.as_secs())))
            }
        }
    }

    /// Fails if this user cannot enter the directory `wanted`. The error names the first directory on the path that is
    /// closed. Runs `program` in each, because only the system knows everything that may deny access.
    pub(super) async fn check_access(
        self,
        program: &Path,
        wanted: &Path,
    ) -> Result<(), EmbeddedError> {
        if !self.hub_is_root || self.can_enter(program, wanted).await? {
            return Ok(());
        }
        let mut dirs: Vec<&Path> = wanted.ancestors().collect();
        dirs.reverse();
        for dir in dirs {
            if !self.can_enter(program, dir).await? {
                return Err(EmbeddedError::Unreachable {
                    wanted: wanted.to_owned(),
                    closed: dir.to_owned(),
                    user: self.name(),
                });
            }
        }
        Ok(())
    }

    /// Runs `program --version` in `dir`: a child process changes its user before its directory.
    async fn can_enter(self, program: &Path, dir: &Path) -> Result<bool, EmbeddedError> {
        match self.command(program).arg("--version").current_dir(dir).output().await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(self.failed(program, error.to_string())),
        }
    }

    pub(super) fn failed(self, program: &Path, why: String) -> EmbeddedError {
        EmbeddedError::Program { program: program.to_owned(), user: self.name(), why }
    }

    /// Returns the name of this user, or the numeric id if the system knows no name.
    fn name(self) -> String {
        User::from_uid(Uid::from_raw(self.uid))
            .ok()
            .flatten()
            .map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}

/// Kills a process group. `leader`: the process id of its leader; `None`: it has ended already.
fn kill_group(leader: Option<u32>) {
    let Some(group) = leader.and_then(|pid| i32::try_from(pid).ok()) else { return };
    if let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL) {
        tracing::warn!(%error, group, "cannot kill a process group that took too long");
    }
}
