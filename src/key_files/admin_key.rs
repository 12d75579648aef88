//! The admin key: configured, or generated at the first start and stored in the data directory.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::key_files::{self, KeyFile, KeyFileError};

const FILE: &str = "admin-key";

/// The key with every permission. `Debug` hides it.
#[derive(Clone)]
pub struct AdminKey {
    key: String,
    file: Option<PathBuf>,
    is_new: bool,
}

impl AdminKey {
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// Returns the path of the file that contains the key. `None`: the operator configured the key.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns whether the key was generated at this start. A new key must be shown to the operator.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// The `configured` key, or the key in the data directory's file, which is generated if missing.
pub(crate) fn load(configured: Option<String>, data_dir: &Path) -> Result<AdminKey, KeyFileError> {
    if let Some(key) = configured {
        return Ok(AdminKey { key, file: None, is_new: false });
    }
    let fresh = format!("hh_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let KeyFile { path, text, is_new } = key_files::load(data_dir, FILE, &fresh)?;
    Ok(AdminKey { key: text, file: Some(path), is_new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_key_takes_precedence_and_a_generated_one_is_new_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(Some("configured".into()), dir.path()).unwrap().as_str(), "configured");
        let first = load(None, dir.path()).unwrap();
        assert!(first.is_new() && first.file().is_some_and(Path::exists));
        let second = load(None, dir.path()).unwrap();
        assert_eq!(second.as_str(), first.as_str());
        assert!(!second.is_new(), "it is shown once");
        assert!(!format!("{first:?}").contains(first.as_str()));
    }
}
