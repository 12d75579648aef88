//! Finds the Postgres programs on this machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::EmbeddedError;
use super::settings::EmbeddedSettings;
use super::user::ServerUser;

/// The oldest major version the hub supports.
pub(super) const MIN_MAJOR: u32 = 14;
/// Debian and its derivatives install each major version here, as `<major>/bin`.
const PACKAGED: &str = "/usr/lib/postgresql";
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// A directory that holds `postgres` and `initdb`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// Finds the programs to use. `cluster_major`: the version of an existing cluster, which is then required. `user`
    /// runs `postgres --version`. Fails if no suitable version is installed, or if the configured one does not run.
    pub(super) async fn find(
        settings: &EmbeddedSettings,
        cluster_major: Option<u32>,
        user: &ServerUser,
    ) -> Result<Self, EmbeddedError> {
        let mut found = Vec::new();
        for dir in candidates(settings) {
            match version_in(&dir, user).await {
                Ok(major) => found.push(Self { dir, major }),
                Err(error) if settings.binaries.is_some() => return Err(error),
                Err(error) => tracing::warn!(%error, "ignoring a Postgres that does not run"),
            }
        }
        match choose(&found, cluster_major) {
            Some(binaries) => Ok(binaries.clone()),
            None => Err(refusal(settings, &found, cluster_major)),
        }
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }
}

/// The version `cluster_major`, or without a cluster the first supported one.
fn choose(found: &[Binaries], cluster_major: Option<u32>) -> Option<&Binaries> {
    let mut supported = found.iter().filter(|binaries| binaries.major >= MIN_MAJOR);
    match cluster_major {
        Some(major) => supported.find(|binaries| binaries.major == major),
        None => supported.next(),
    }
}

/// Builds the error for the operator: no Postgres was found, or why none of the versions in `found` can be used.
fn refusal(
    settings: &EmbeddedSettings,
    found: &[Binaries],
    cluster_major: Option<u32>,
) -> EmbeddedError {
    let Some(newest) = found.iter().max_by_key(|binaries| binaries.major) else {
        let searched = match &settings.binaries {
            Some(dir) => format!("HOOKHUB_POSTGRES_BIN={}", dir.display()),
            None => format!("PATH and {PACKAGED}/*/bin"),
        };
        return EmbeddedError::NoBinaries { searched };
    };
    match cluster_major {
        Some(cluster_major) if newest.major >= MIN_MAJOR => {
            let found: Vec<_> = found.iter().map(|one| one.major.to_string()).collect();
            let cluster = settings.data_dir.join("postgres");
            EmbeddedError::MajorMismatch { cluster, cluster_major, found: found.join(", ") }
        }
        Some(_) | None => EmbeddedError::TooOld { dir: newest.dir.clone(), found: newest.major },
    }
}

/// The directories with both programs, each once: only the configured one, or those of `PATH`, then Debian's.
fn candidates(settings: &EmbeddedSettings) -> Vec<PathBuf> {
    let places = match &settings.binaries {
        Some(dir) => vec![dir.clone()],
        None => settings.path.iter().flat_map(|path| directories(path)).chain(packaged()).collect(),
    };
    let mut usable: Vec<PathBuf> = Vec::new();
    for dir in places.iter().filter_map(|place| place.canonicalize().ok()) {
        let has_both = dir.join("postgres").is_file() && dir.join("initdb").is_file();
        if has_both && !usable.contains(&dir) {
            usable.push(dir);
        }
    }
    usable
}

/// The absolute directories in `PATH`; relative ones depend on the working directory and are omitted.
fn directories(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(|dir| PathBuf::from(OsStr::from_bytes(dir)))
        .filter(|dir| dir.is_absolute())
}

/// The program directories of Debian's packages, newest version first.
fn packaged() -> Vec<PathBuf> {
    let mut majors: Vec<u32> = fs::read_dir(PACKAGED)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.iter().map(|major| PathBuf::from(format!("{PACKAGED}/{major}/bin"))).collect()
}

/// Runs `postgres --version` in `dir` and returns the major version.
async fn version_in(dir: &Path, user: &ServerUser) -> Result<u32, EmbeddedError> {
    let program = dir.join("postgres");
    let mut command = user.command(&program);
    command.arg("--version");
    let output = user.run(command, "", VERSION_TIMEOUT).await?;
    major_of(&output).ok_or_else(|| {
        let printed = output.trim();
        let why = format!("--version printed `{printed}`, which names no version of PostgreSQL");
        user.failed(&program, why)
    })
}

fn major_of(output: &str) -> Option<u32> {
    let (_, version) = output.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32) -> Binaries {
        Binaries { dir: PathBuf::from(format!("/pg/{major}")), major }
    }

    #[test]
    fn the_major_version_is_read_from_releases_betas_and_packages() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn a_new_cluster_uses_the_first_version_that_is_new_enough() {
        let found = [binaries(13), binaries(15), binaries(17)];
        assert_eq!(choose(&found, None), Some(&found[1]));
        assert_eq!(choose(&found[..1], None), None);
    }

    #[test]
    fn an_existing_cluster_uses_only_its_own_major_version() {
        let found = [binaries(15), binaries(17)];
        assert_eq!(choose(&found, Some(17)), Some(&found[1]));
        assert_eq!(choose(&found, Some(16)), None);
    }
}
