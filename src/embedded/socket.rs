//! The Unix socket of the embedded Postgres, in a directory that only its user can enter.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::cluster::DATABASE;
use super::data_dir::DataDir;
use super::error::EmbeddedError;
use super::user::ServerUser;

/// The port number names the socket file; nothing listens on TCP.
pub(super) const PORT: &str = "5432";
/// The system's limit for the path of a socket (`sun_path` without its closing NUL).
const MAX_PATH_BYTES: usize = 107;

/// Creates the socket's directory, or makes an existing one private: in the data directory or, if that path is
/// unusable, in `/tmp`.
pub(super) fn prepare(data_dir: &DataDir, user: &ServerUser) -> Result<PathBuf, EmbeddedError> {
    let preferred = data_dir.sockets();
    let dir = if can_hold_a_socket(&preferred) { preferred } else { fallback_dir(data_dir.root()) };
    match DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => make_private(&dir, user)?,
        Err(error) => return Err(EmbeddedError::io("make directory", &dir)(error)),
    }
    user.chown(&dir)?;
    Ok(dir)
}

/// Removes the directory unless files are left in it, as after a disorderly shutdown.
pub(super) fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(%error, dir = %dir.display(), "cannot remove the socket directory");
    }
}

pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// Returns the path of the lock file by which Postgres marks the socket in `dir` as in use.
pub(super) fn lock_path_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}.lock"))
}

pub(super) fn database_url(dir: &Path) -> String {
    let host: String = dir.as_os_str().as_bytes().iter().map(|byte| escaped(*byte)).collect();
    format!("postgres://{DATABASE}@localhost:{PORT}/{DATABASE}?host={host}")
}

/// Returns one byte of a path in the form that the query of a URL needs, percent-encoded where necessary.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Whether the path is short enough and has no character that Postgres's list of directories forbids.
fn can_hold_a_socket(dir: &Path) -> bool {
    let short_enough = path_in(dir).as_os_str().len() <= MAX_PATH_BYTES;
    short_enough && dir.to_str().is_some_and(|text| !text.contains([',', '"']))
}

/// Returns the path of a directory in `/tmp` for the socket. Its name is a hash of the data directory's path.
fn fallback_dir(data_dir: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    PathBuf::from(format!("/tmp/hookhub-{:016x}", hasher.finish()))
}

/// Removes the permissions of other users. Fails if another user may have created the directory, as anyone can in
/// `/tmp`: a symbolic link, no directory, or a foreign owner.
fn make_private(dir: &Path, user: &ServerUser) -> Result<(), EmbeddedError> {
    let metadata = fs::symlink_metadata(dir).map_err(EmbeddedError::io("look at", dir))?;
    let ours = [user.uid, geteuid().as_raw()].contains(&metadata.uid());
    if !metadata.is_dir() || !ours {
        return Err(EmbeddedError::UnsafeSocketDir { dir: dir.to_owned() });
    }
    if metadata.mode() & 0o777 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(EmbeddedError::io("set permissions of", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_the_path_are_escaped_in_the_url() {
        assert_eq!(
            database_url(Path::new("/srv/my hub+&co/run")),
            "postgres://hookhub@localhost:5432/hookhub?host=/srv/my%20hub%2B%26co/run"
        );
    }

    #[test]
    fn a_long_or_special_path_cannot_hold_a_socket() {
        assert!(can_hold_a_socket(Path::new("/srv/hookhub-data/run")));
        assert!(!can_hold_a_socket(&Path::new("/srv").join("x".repeat(100))));
        assert!(!can_hold_a_socket(Path::new("/srv/a,b/run")));
    }
}
