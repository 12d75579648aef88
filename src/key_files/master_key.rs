//! The master key, which seals what is secret in the database: given, or made at the first start and kept in the data
//! directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::encryption::{MasterKey, MasterKeys};
use crate::key_files;

/// Its file in the data directory. Its owner may write former keys behind the one that is there, as in the setting.
pub(crate) const FILE: &str = "master-key";

/// The keys that were given, else those that are kept, else a new one, which is then kept.
pub(crate) fn load(
    given: Option<&MasterKeys>,
    data_dir: &Path,
) -> Result<MasterKeys, (PathBuf, io::Error)> {
    if let Some(keys) = given {
        return Ok(keys.clone());
    }
    let fresh = MasterKey::from_random(rand::random()).reveal();
    let path = data_dir.join(FILE);
    let read = || {
        let kept = key_files::load(data_dir, FILE, &fresh)?;
        if kept.is_new {
            tracing::warn!(
                file = %path.display(),
                "a master key was made and is kept there: without it nobody can read the secrets in the database, so \
                 keep a copy elsewhere, and give it to other nodes by HOOKHUB_MASTER_KEY"
            );
        }
        let keys = kept.text.parse::<MasterKeys>();
        keys.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))
    };
    read().map_err(|error| (path.clone(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_key_goes_first_and_a_kept_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let given = MasterKeys::from(MasterKey::from_random([7; 32]));
        assert_eq!(load(Some(&given), dir.path()).unwrap(), given);
        let first = load(None, dir.path()).unwrap();
        assert_eq!(load(None, dir.path()).unwrap(), first);
        std::fs::write(dir.path().join(FILE), "no key\n").unwrap();
        assert!(load(None, dir.path()).is_err());
    }
}
