//! Why the embedded Postgres cannot be had, each as one line for the operator.

use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded Postgres could not be started.
///
/// Each message is a single line that names the place or setting at fault and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Another hub holds the lock of the data directory.
    #[error(
        "data directory {dir} is in use by another hookhub ({holder}): stop that one, or give this one a \
         directory of its own with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, e.g. `process 4711`.
        holder: String,
    },

    /// No usable `postgres` and `initdb` where they are looked for.
    #[error(
        "found no Postgres in {searched}: install it (Debian, Ubuntu: apt-get install postgresql; to keep that \
         from running a server of its own, first put `create_main_cluster = false` into \
         /etc/postgresql-common/createcluster.conf), or set HOOKHUB_POSTGRES_BIN to the directory that holds \
         postgres and initdb, or set DATABASE_URL to a server you run"
    )]
    NoBinaries {
        /// The places that were searched.
        searched: String,
    },

    /// The only Postgres found is older than the hub supports.
    #[error(
        "Postgres in {dir} is version {found}, hookhub needs {} or newer: install a newer one (Debian, Ubuntu: \
         apt-get install postgresql), or set HOOKHUB_POSTGRES_BIN to the bin directory of one",
        super::binaries::MIN_MAJOR
    )]
    TooOld {
        /// The directory of the binaries.
        dir: PathBuf,
        /// Their major version.
        found: u32,
    },

    /// The cluster was made by a major version that is not installed.
    #[error(
        "cluster {cluster} was made by Postgres {cluster_major}, but only Postgres {found} was found: install \
         Postgres {cluster_major} (and set HOOKHUB_POSTGRES_BIN to its bin directory), or bring the cluster to \
         {found} with pg_upgrade"
    )]
    MajorMismatch {
        /// The cluster directory.
        cluster: PathBuf,
        /// The major version in its `PG_VERSION`.
        cluster_major: u32,
        /// The major versions found, e.g. `16, 17`.
        found: String,
    },

    /// The place of the cluster holds something else.
    #[error(
        "{cluster} should be a Postgres cluster but has no readable PG_VERSION: move it away, or give the hub \
         another directory with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    NotACluster {
        /// The cluster directory.
        cluster: PathBuf,
    },

    /// The cluster belongs to a user that Postgres cannot be run as.
    #[error(
        "cluster {cluster} belongs to user id {owner}, and Postgres can only run as its owner, never as root: \
         start hookhub as that user, or give the cluster away (chown -R USER {cluster})"
    )]
    ForeignCluster {
        /// The cluster directory.
        cluster: PathBuf,
        /// The user id that owns it.
        owner: u32,
    },

    /// Started as root, with no unprivileged user to run Postgres as.
    #[error(
        "Postgres must not run as root, and there is neither a user `postgres` nor `nobody` to run it as: add \
         one (useradd --system postgres), or start hookhub as an ordinary user"
    )]
    NoUnprivilegedUser,

    /// Started as root, and the unprivileged user cannot get to a directory Postgres needs.
    #[error(
        "Postgres cannot reach {wanted}: started by root it runs as user {user}, and {closed} is closed to that \
         user: choose another directory with --data-dir (HOOKHUB_DATA_DIR), e.g. /var/lib/hookhub"
    )]
    Unreachable {
        /// The data directory.
        wanted: PathBuf,
        /// The directory on the way that keeps the user out.
        closed: PathBuf,
        /// The user Postgres runs as.
        user: String,
    },

    /// The directory for an over-long socket path is someone else's.
    #[error(
        "socket directory {dir} is not a private directory of the user Postgres runs as: remove it, or choose \
         a data directory with a shorter path with --data-dir (HOOKHUB_DATA_DIR)"
    )]
    UnsafeSocketDir {
        /// The socket directory.
        dir: PathBuf,
    },

    /// A server left by a killed hub does not end.
    #[error(
        "Postgres process {pid}, left on {cluster} by a hub that was killed, could not be stopped ({why}): end \
         it by hand (kill -QUIT {pid}) and start again"
    )]
    Orphan {
        /// Its process id.
        pid: i32,
        /// The cluster directory.
        cluster: PathBuf,
        /// What was tried.
        why: String,
    },

    /// A program of Postgres failed or took too long.
    #[error(
        "{program}, run as user {user}, failed ({why}): that user must be able to run it, and the disk of the \
         data directory must have room; for another Postgres set HOOKHUB_POSTGRES_BIN to its bin directory"
    )]
    Program {
        /// The program, with its path.
        program: PathBuf,
        /// The user it ran as.
        user: String,
        /// Its exit status and last words.
        why: String,
    },

    /// The server ended before it took a connection.
    #[error("Postgres ended while starting ({status}): {last_output} (more in {log})")]
    EndedAtStart {
        /// How it ended.
        status: String,
        /// Its last log lines.
        last_output: String,
        /// Its log file.
        log: PathBuf,
    },

    /// The server runs but does not take connections.
    #[error(
        "Postgres took no connection within {seconds} s of starting ({last_answer}): see {log}"
    )]
    NotReady {
        /// How long the hub waited.
        seconds: u64,
        /// What the last attempt to connect gave.
        last_answer: String,
        /// Its log file.
        log: PathBuf,
    },

    /// The operating system refused something under the data directory.
    #[error(
        "cannot {action} {path}: {source}; the data directory must be writable by the user that runs hookhub, \
         choose another with --data-dir (HOOKHUB_DATA_DIR) if it cannot be"
    )]
    Io {
        /// What was tried, e.g. `make directory`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl EmbeddedError {
    /// Names what was being done to which path, for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
