//! Keys that the hub generates: each in a file of the data directory that only its owner can read.

pub(crate) mod admin_key;
pub(crate) mod master_key;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// How much of a file is read, in bytes. The rest is ignored.
const MAX_FILE_SIZE: u64 = 4_096;

/// A key file that cannot be read or created.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct KeyFileError {
    pub path: PathBuf,
    pub error: io::Error,
}

/// A key file and its key.
pub(crate) struct KeyFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Whether this call created the file.
    pub(crate) is_new: bool,
}

/// The key in the file `name`, which is created with the key `fresh` and mode 0600 if missing. Processes that start at
/// the same time all get the same key.
pub(crate) fn load(data_dir: &Path, name: &str, fresh: &str) -> Result<KeyFile, KeyFileError> {
    let path = data_dir.join(name);
    match read_or_create(data_dir, &path, fresh) {
        Ok((text, is_new)) => Ok(KeyFile { path, text, is_new }),
        Err(error) => Err(KeyFileError { path, error }),
    }
}

/// Also returns whether this call created the file.
fn read_or_create(data_dir: &Path, path: &Path, fresh: &str) -> io::Result<(String, bool)> {
    if let Some(text) = read(path)? {
        return Ok((text, false));
    }
    let is_new = create(data_dir, path, fresh)?;
    let text = read(path)?.ok_or(io::ErrorKind::NotFound)?;
    Ok((text, is_new))
}

/// Reads the key in a file. `None`: the file does not exist. An empty file is an error.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_FILE_SIZE).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match text.trim() {
        "" => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty; delete it to generate a new key",
        )),
        key => Ok(Some(key.to_owned())),
    }
}

/// Creates the file atomically, with mode 0600, and its directory if missing. Returns false, and changes nothing, if
/// another process created the file first.
fn create(data_dir: &Path, path: &Path, key: &str) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let draft = path.with_extension(format!("draft.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    // A hard link, because a rename would replace an existing file.
    let is_new = match fs::hard_link(&draft, path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    fs::remove_file(&draft)?;
    File::open(data_dir)?.sync_all()?;
    Ok(is_new)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_created_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let first = load(&data_dir, "a-key", "first").unwrap();
        assert!(first.is_new && first.text == "first");
        let file = data_dir.join("a-key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let second = load(&data_dir, "a-key", "second").unwrap();
        assert!(!second.is_new && second.text == "first");
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "the draft is deleted");
    }

    #[test]
    fn an_empty_key_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a-key"), "\n").unwrap();
        assert!(load(dir.path(), "a-key", "fresh").is_err());
    }

    #[test]
    fn the_second_process_reads_the_key_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-key");
        assert!(create(dir.path(), &path, "first").unwrap());
        assert!(!create(dir.path(), &path, "second").unwrap());
        let texts: HashSet<_> =
            ["x", "y"].map(|fresh| load(dir.path(), "a-key", fresh).unwrap().text).into();
        assert_eq!(texts, HashSet::from(["first".to_owned()]));
    }
}
