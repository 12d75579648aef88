//! The data directory: its layout, and the lock that lets one hub at a time use it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;
use super::server_log::ServerLog;
use super::user::ServerUser;

/// A data directory locked for this hub, until dropped.
pub(super) struct DataDir {
    root: PathBuf,
    lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing, and locks it. Fails if another hub has locked it.
    pub(super) fn claim(path: &Path) -> Result<Self, EmbeddedError> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .create(path.parent().unwrap_or(path))
                .and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(path))
                .map_err(EmbeddedError::io("make directory", path))?;
        }
        let root = path.canonicalize().map_err(EmbeddedError::io("enter directory", path))?;
        let lock = take_lock(&root)?;
        Ok(Self { root, lock })
    }

    /// Lets `user` enter a directory that only root may enter. Other permissions are the operator's and stay.
    pub(super) fn allow_entry(&self, user: &ServerUser) -> Result<(), EmbeddedError> {
        let root = &self.root;
        let metadata = fs::metadata(root).map_err(EmbeddedError::io("look at", root))?;
        let closed = metadata.mode() & 0o071 == 0;
        if !user.hub_is_root || metadata.uid() != 0 || !closed {
            return Ok(());
        }
        user.chown_group(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o710))
            .map_err(EmbeddedError::io("set permissions of", root))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Returns the preferred directory for the Unix socket of Postgres (see
    /// [`socket::prepare`](super::socket::prepare)).
    pub(super) fn sockets(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn log(&self) -> ServerLog {
        ServerLog { path: self.root.join("postgres.log") }
    }
}

impl Drop for DataDir {
    /// Unlocks the data directory explicitly: a child process between fork and exec still shares the open lock file,
    /// and closing it here would not end the lock.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "cannot unlock the data directory");
        }
    }
}

/// Locks the lock file and writes this process's id into it. Fails if another process holds the lock.
fn take_lock(root: &Path) -> Result<File, EmbeddedError> {
    let path = root.join("hookhub.lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(EmbeddedError::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(EmbeddedError::InUse { dir: root.to_owned(), holder: holder(&mut lock) });
        }
        Err(TryLockError::Error(error)) => return Err(EmbeddedError::io("lock", &path)(error)),
    }
    lock.set_len(0)
        .and_then(|()| write!(lock, "{}", std::process::id()))
        .map_err(EmbeddedError::io("write", &path))?;
    Ok(lock)
}

/// Names the process that holds the lock, for the error text. That process wrote its id into the lock file.
fn holder(lock: &mut File) -> String {
    let mut pid = String::new();
    match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.is_empty() => format!("process {pid}"),
        Ok(_) | Err(_) => "process unknown".to_owned(),
    }
}
