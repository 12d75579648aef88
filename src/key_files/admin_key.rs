//! The admin key: given, or made at the first start and kept in the data directory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::key_files;

/// Its file in the data directory.
const FILE: &str = "admin-key";

/// The key that may do everything; never shown by `Debug`.
#[derive(Clone)]
pub struct AdminKey {
    key: String,
    file: Option<PathBuf>,
    is_new: bool,
}

impl AdminKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// Where it is kept, unless it was given.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether it was made just now and must be shown.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// The key that was given, else the one that is kept, else a new one, which is then kept.
pub(crate) fn load(
    given: Option<String>,
    data_dir: &Path,
) -> Result<AdminKey, (PathBuf, io::Error)> {
    if let Some(key) = given {
        return Ok(AdminKey { key, file: None, is_new: false });
    }
    let fresh = format!("hh_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let path = data_dir.join(FILE);
    match key_files::load(data_dir, FILE, &fresh) {
        Ok(kept) => Ok(AdminKey { key: kept.text, file: Some(path), is_new: kept.is_new }),
        Err(error) => Err((path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_key_goes_first_and_a_kept_one_is_shown_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(Some("given".into()), dir.path()).unwrap().as_str(), "given");
        let first = load(None, dir.path()).unwrap();
        assert!(first.is_new() && first.file().is_some_and(Path::exists));
        let second = load(None, dir.path()).unwrap();
        assert_eq!(second.as_str(), first.as_str());
        assert!(!second.is_new(), "it is shown once");
        assert!(!format!("{first:?}").contains(first.as_str()));
    }
}
