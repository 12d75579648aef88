//! The database cluster, created atomically on first use.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::binaries::Binaries;
use super::error::EmbeddedError;
use super::user::ServerUser;

/// The name of the database and of its owner.
pub(super) const DATABASE: &str = "hookhub";
/// The name of an unfinished cluster: this prefix and the hub's process id.
const DRAFT_PREFIX: &str = "postgres.new-";
const INITDB_TIMEOUT: Duration = Duration::from_mins(2);
const CREATE_DATABASE_TIMEOUT: Duration = Duration::from_mins(1);

/// The major version that created the cluster; `None`: no cluster. Fails if the directory contains other files, or an
/// unreadable `PG_VERSION`.
pub(super) fn version(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let no_cluster = || EmbeddedError::NotACluster { cluster: cluster.to_owned() };
    let path = cluster.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_not_a_number| no_cluster()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("read", &path)(error))
        }
        Err(_not_found) if is_free(cluster) => Ok(None),
        Err(_not_found) => Err(no_cluster()),
    }
}

/// Whether a cluster can be moved to the path `place`: it does not exist, or is an empty directory.
fn is_free(place: &Path) -> bool {
    !place.exists() || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
}

/// Creates the cluster with the hub's database, unless one exists. A draft is renamed when complete, so a crash leaves
/// only a draft, which the next start removes.
pub(super) async fn ensure(
    cluster: &Path,
    binaries: &Binaries,
    user: &ServerUser,
) -> Result<(), EmbeddedError> {
    let parent = cluster.parent().unwrap_or(cluster);
    remove_drafts(parent);
    if version(cluster)?.is_some() {
        return Ok(());
    }
    let draft = parent.join(format!("{DRAFT_PREFIX}{}", std::process::id()));
    let created =
        create(&draft, binaries, user).await.and_then(|()| put_in_place(&draft, cluster, parent));
    if created.is_err() {
        remove_drafts(parent);
    }
    created
}

async fn create(draft: &Path, binaries: &Binaries, user: &ServerUser) -> Result<(), EmbeddedError> {
    tracing::info!(programs = %binaries.dir.display(), major = binaries.major, "creating the cluster of the embedded Postgres");
    DirBuilder::new()
        .mode(0o700)
        .create(draft)
        .map_err(EmbeddedError::io("make directory", draft))?;
    user.chown(draft)?;

    let mut initdb = user.command(&binaries.initdb());
    initdb.arg("--pgdata").arg(draft).args(["--username", DATABASE]);
    initdb.args(["--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"]);
    // The permissions of the socket's directory decide who may connect.
    initdb.args(["--auth-local", "trust", "--auth-host", "reject"]);
    user.run(initdb, "", INITDB_TIMEOUT).await?;

    let mut single_user = user.command(&binaries.postgres());
    single_user.arg("--single").arg("-D").arg(draft).args(["-c", "exit_on_error=on", "postgres"]);
    user.run(single_user, &format!("CREATE DATABASE {DATABASE}\n"), CREATE_DATABASE_TIMEOUT)
        .await?;
    Ok(())
}

/// Renames `draft` to `cluster`, and syncs `parent`, so that the rename survives a crash.
fn put_in_place(draft: &Path, cluster: &Path, parent: &Path) -> Result<(), EmbeddedError> {
    fs::rename(draft, cluster).map_err(EmbeddedError::io("rename the new cluster to", cluster))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(EmbeddedError::io("sync", parent))
}

/// Removes the drafts that a crash or a failure left. Errors are only logged: a remaining draft does no harm.
fn remove_drafts(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(DRAFT_PREFIX)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot remove an unfinished cluster");
        }
    }
}
