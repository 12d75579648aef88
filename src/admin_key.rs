//! The admin key: given, or made at the first start and kept in the data directory.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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

/// The key that was given, else the one that is kept, else a new one, which is then kept with mode 0600.
pub fn load(given: Option<String>, data_dir: &Path) -> Result<AdminKey, (PathBuf, io::Error)> {
    if let Some(key) = given {
        return Ok(AdminKey { key, file: None, is_new: false });
    }
    let path = data_dir.join(FILE);
    match kept(&path) {
        Ok(Some(key)) => Ok(AdminKey { key, file: Some(path), is_new: false }),
        Ok(None) => match make(data_dir, &path) {
            Ok(key) => Ok(AdminKey { key, file: Some(path), is_new: true }),
            Err(error) => Err((path, error)),
        },
        Err(error) => Err((path, error)),
    }
}

fn kept(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => file.take(4_096).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match text.trim() {
        "" => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty; remove it, and a new key is made",
        )),
        key => Ok(Some(key.to_owned())),
    }
}

/// Writes a new key beside its place and moves it there whole.
fn make(data_dir: &Path, path: &Path) -> io::Result<String> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let key = format!("hh_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let draft = path.with_extension("draft");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let first = load(None, &data_dir).unwrap();
        let file = first.file().unwrap().to_owned();
        assert!(first.is_new());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let second = load(None, &data_dir).unwrap();
        assert_eq!(second.as_str(), first.as_str());
        assert!(!second.is_new(), "it is shown once");
        assert!(!format!("{first:?}").contains(first.as_str()));
    }

    #[test]
    fn a_given_key_goes_first_and_an_empty_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(Some("given".into()), dir.path()).unwrap().as_str(), "given");
        fs::write(dir.path().join(FILE), "\n").unwrap();
        assert!(load(None, dir.path()).is_err());
    }
}
