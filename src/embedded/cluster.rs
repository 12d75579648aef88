//! The cluster: made once, whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::EmbeddedError;
use super::binaries::Binaries;
use super::user::ServerUser;

/// The database and its owner.
pub(super) const DATABASE: &str = "hookhub";

/// A cluster in the making has this name, and the hub's process id, until it is whole.
const DRAFT: &str = "postgres.new-";

const INITDB_TIMEOUT: Duration = Duration::from_mins(2);
const CREATE_DATABASE_TIMEOUT: Duration = Duration::from_mins(1);

/// The major version the cluster was made by; `None` when there is no cluster yet.
pub(super) fn version(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let no_cluster = || EmbeddedError::NotACluster { cluster: cluster.to_owned() };
    let path = cluster.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_not_a_number| no_cluster()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if is_free(cluster) {
                Ok(None)
            } else {
                Err(no_cluster())
            }
        }
        Err(error) => Err(EmbeddedError::io("read", &path)(error)),
    }
}

/// Whether a cluster can be moved to this place: nothing there, or an empty directory.
fn is_free(place: &Path) -> bool {
    !place.exists() || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
}

/// Makes the cluster with the hub's database in it, unless there is one.
///
/// It is made under another name and renamed when whole, so a crash in between leaves only a draft, which the
/// next start clears away.
pub(super) async fn ensure(
    cluster: &Path,
    binaries: &Binaries,
    user: &ServerUser,
) -> Result<(), EmbeddedError> {
    let home = cluster.parent().unwrap_or(cluster);
    clear_drafts(home);
    if version(cluster)?.is_some() {
        return Ok(());
    }
    let draft = home.join(format!("{DRAFT}{}", std::process::id()));
    let made =
        make(&draft, binaries, user).await.and_then(|()| put_in_place(&draft, cluster, home));
    if made.is_err() {
        clear_drafts(home);
    }
    made
}

async fn make(draft: &Path, binaries: &Binaries, user: &ServerUser) -> Result<(), EmbeddedError> {
    tracing::info!(programs = %binaries.dir.display(), major = binaries.major, "making the cluster of the embedded Postgres");
    DirBuilder::new()
        .mode(0o700)
        .create(draft)
        .map_err(EmbeddedError::io("make directory", draft))?;
    user.chown(draft)?;

    let mut initdb = user.command(&binaries.initdb());
    initdb.arg("--pgdata").arg(draft).args([
        "--username",
        DATABASE,
        "--encoding",
        "UTF8",
        "--locale",
        "C",
    ]);
    // Who may connect is settled by the permissions of the socket's directory.
    initdb.args([
        "--auth-local",
        "trust",
        "--auth-host",
        "reject",
        "--data-checksums",
        "--no-instructions",
    ]);
    user.run(initdb, "", INITDB_TIMEOUT).await?;

    let mut single_user = user.command(&binaries.postgres());
    single_user.arg("--single").arg("-D").arg(draft).args(["-c", "exit_on_error=on", "postgres"]);
    user.run(single_user, &format!("CREATE DATABASE {DATABASE}\n"), CREATE_DATABASE_TIMEOUT)
        .await?;
    Ok(())
}

fn put_in_place(draft: &Path, cluster: &Path, home: &Path) -> Result<(), EmbeddedError> {
    fs::rename(draft, cluster).map_err(EmbeddedError::io("rename the new cluster to", cluster))?;
    File::open(home).and_then(|home| home.sync_all()).map_err(EmbeddedError::io("sync", home))
}

/// Removes clusters that were never finished. One that cannot be removed is in nobody's way.
fn clear_drafts(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(DRAFT)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot remove a half-made cluster");
        }
    }
}
