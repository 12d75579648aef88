//! Keys that the hub makes for itself: each in a file of the data directory, for its owner alone.

pub(crate) mod admin_key;
pub(crate) mod master_key;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 4_096;

/// The key in a file.
pub(crate) struct Kept {
    /// Its text.
    pub(crate) text: String,
    /// Whether it was made just now.
    pub(crate) is_new: bool,
}

/// The key that is kept in the file `name`, else `fresh`, which is then kept with mode 0600. Of several that start at once
/// on an empty directory, all have the same.
pub(crate) fn load(data_dir: &Path, name: &str, fresh: &str) -> io::Result<Kept> {
    let path = data_dir.join(name);
    if let Some(text) = kept(&path)? {
        return Ok(Kept { text, is_new: false });
    }
    let is_new = keep(data_dir, &path, fresh)?;
    let text = kept(&path)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Kept { text, is_new })
}

fn kept(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(LONGEST).read_to_string(&mut text)?,
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

/// Writes a key beside its place and puts it there whole, unless another process was first.
fn keep(data_dir: &Path, path: &Path, key: &str) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let draft = path.with_extension(format!("draft.{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    // A link, for a rename would take the place of what is there.
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
    fn a_key_is_made_once_and_kept_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let first = load(&data_dir, "a-key", "first").unwrap();
        assert!(first.is_new && first.text == "first");
        let file = data_dir.join("a-key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let second = load(&data_dir, "a-key", "second").unwrap();
        assert!(!second.is_new && second.text == "first");
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn an_empty_file_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a-key"), "\n").unwrap();
        assert!(load(dir.path(), "a-key", "fresh").is_err());
    }

    #[test]
    fn whoever_comes_second_takes_the_key_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-key");
        assert!(keep(dir.path(), &path, "first").unwrap());
        assert!(!keep(dir.path(), &path, "second").unwrap());
        let texts: HashSet<_> =
            ["x", "y"].map(|fresh| load(dir.path(), "a-key", fresh).unwrap().text).into();
        assert_eq!(texts, HashSet::from(["first".to_owned()]));
    }
}
