//! The errors of the embedded Postgres, each one line for the operator.

use std::io;
use std::path::{Path, PathBuf};

/// Each message is a single line that names the path or setting at fault and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    #[error(
        "data directory {dir} is in use by another hookhub ({holder}): stop that one, or give this one a \
         directory of its own with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    InUse {
        dir: PathBuf,
        /// For example `process 4711`.
        holder: String,
    },

    #[error(
        "found no Postgres in {searched}: install it (Debian, Ubuntu: apt-get install postgresql; to keep that \
         from running a server of its own, first put `create_main_cluster = false` into \
         /etc/postgresql-common/createcluster.conf), or set HOOKHUB_POSTGRES_BIN to the directory that holds \
         postgres and initdb, or set DATABASE_URL to a server you run"
    )]
    NoBinaries { searched: String },

    #[error(
        "Postgres in {dir} is version {found}, hookhub needs {} or newer: install a newer one (Debian, Ubuntu: \
         apt-get install postgresql), or set HOOKHUB_POSTGRES_BIN to the bin directory of one",
        super::binaries::MIN_MAJOR
    )]
    TooOld { dir: PathBuf, found: u32 },

    #[error(
        "cluster {cluster} was made by Postgres {cluster_major}, but only Postgres {found} was found: install \
         Postgres {cluster_major} (and set HOOKHUB_POSTGRES_BIN to its bin directory), or bring the cluster to \
         {found} with pg_upgrade"
    )]
    MajorMismatch {
        cluster: PathBuf,
        /// From `PG_VERSION`.
        cluster_major: u32,
        /// The major versions found, e.g. `16, 17`.
        found: String,
    },

    #[error(
        "{cluster} should be a Postgres cluster but has no readable PG_VERSION: move it away, or give the hub \
         another directory with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    NotACluster { cluster: PathBuf },

    #[error(
        "cluster {cluster} belongs to user id {owner}, and Postgres can only run as its owner, never as root: \
         start hookhub as that user, or give the cluster away (chown -R USER {cluster})"
    )]
    ForeignCluster { cluster: PathBuf, owner: u32 },

    #[error(
        "Postgres must not run as root, and there is neither a user `postgres` nor `nobody` to run it as: add \
         one (useradd --system postgres), or start hookhub as an ordinary user"
    )]
    NoUnprivilegedUser,

    #[error(
        "Postgres cannot reach {wanted}: started by root it runs as user {user}, and {closed} is closed to that \
         user: choose another directory with --data-dir (HOOKHUB_DATA_DIR), e.g. /var/lib/hookhub"
    )]
    Unreachable {
        wanted: PathBuf,
        /// The first directory on the path that the user cannot enter.
        closed: PathBuf,
        user: String,
    },

    #[error(
        "socket directory {dir} is not a private directory of the user Postgres runs as: remove it, or choose \
         a data directory with a shorter path with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    UnsafeSocketDir { dir: PathBuf },

    #[error(
        "Postgres process {pid}, left on {cluster} by a hub that was killed, could not be stopped ({why}): end \
         it by hand (kill -QUIT {pid}) and start again"
    )]
    Orphan { pid: i32, cluster: PathBuf, why: String },

    #[error(
        "{program}, run as user {user}, failed ({why}): that user must be able to run it, and the disk of the \
         data directory must have room; for another Postgres set HOOKHUB_POSTGRES_BIN to its bin directory"
    )]
    Program {
        program: PathBuf,
        user: String,
        /// The exit status and the last output.
        why: String,
    },

    #[error("Postgres ended while starting ({status}): {last_output} (more in {log})")]
    EndedAtStart { status: String, last_output: String, log: PathBuf },

    #[error(
        "Postgres took no connection within {seconds} s of starting ({last_answer}): see {log}"
    )]
    NotReady { seconds: u64, last_answer: String, log: PathBuf },

    #[error(
        "cannot {action} {path}: {source}; the data directory must be writable by the user that runs hookhub, \
         choose another with --data-dir (HOOKHUB_DATA_DIR) if it cannot be"
    )]
    Io {
        /// For example `make directory`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl EmbeddedError {
    /// For `map_err`: an error that says which `action` failed on which `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
