//! The master key, which encrypts the secrets in the database: configured, or generated at the first start and stored
//! in the data directory.

use std::io;
use std::path::Path;

use crate::domain::encryption::{MasterKey, MasterKeys};
use crate::key_files::{self, KeyFile, KeyFileError};

/// The file in the data directory. Operators may append former keys to it, separated by commas as in the setting.
pub(crate) const FILE: &str = "master-key";

/// The `configured` keys, or the key in the data directory's file, which is generated if missing.
pub(crate) fn load(
    configured: Option<&MasterKeys>,
    data_dir: &Path,
) -> Result<MasterKeys, KeyFileError> {
    if let Some(keys) = configured {
        return Ok(keys.clone());
    }
    let fresh = MasterKey::from_random(rand::random()).reveal();
    let KeyFile { path, text, is_new } = key_files::load(data_dir, FILE, &fresh)?;
    if is_new {
        tracing::warn!(
            file = %path.display(),
            "generated a master key and stored it in this file: without it the secrets in the database cannot be read. \
             Keep a copy elsewhere, and configure it on other nodes with HOOKHUB_MASTER_KEY"
        );
    }
    text.parse().map_err(|invalid| {
        let error = io::Error::new(io::ErrorKind::InvalidData, invalid);
        KeyFileError { path, error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_key_takes_precedence_and_a_generated_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let configured = MasterKeys::from(MasterKey::from_random([7; 32]));
        assert_eq!(load(Some(&configured), dir.path()).unwrap(), configured);
        let first = load(None, dir.path()).unwrap();
        assert_eq!(load(None, dir.path()).unwrap(), first);
        std::fs::write(dir.path().join(FILE), "no key\n").unwrap();
        assert!(load(None, dir.path()).is_err());
    }
}
