//! The log file of the embedded Postgres, kept to a bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;

/// A larger log is rotated at the next check. The last rotated file is kept beside it.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;
/// [`ServerLog::last_output`] reads at most this many bytes.
const MAX_TAIL_BYTES: u64 = 4096;
/// [`ServerLog::last_output`] returns at most this many lines.
const MAX_TAIL_LINES: usize = 4;

#[derive(Debug)]
pub(super) struct ServerLog {
    pub(super) path: PathBuf,
}

impl ServerLog {
    pub(super) fn open(&self) -> Result<File, EmbeddedError> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(EmbeddedError::io("open", &self.path))
    }

    /// Rotates a log longer than [`MAX_LOG_BYTES`] by copying, because Postgres keeps the file open.
    pub(super) fn trim(&self) {
        if self.len() <= MAX_LOG_BYTES {
            return;
        }
        let aside = self.path.with_added_extension("1");
        let trimmed = fs::copy(&self.path, &aside)
            .and_then(|_length| OpenOptions::new().write(true).open(&self.path))
            .and_then(|file| file.set_len(0));
        if let Err(error) = trimmed {
            tracing::warn!(%error, log = %self.path.display(), "cannot trim the log of the embedded Postgres");
        }
    }

    /// Returns the length of the log in bytes; 0 if the file cannot be read.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The last lines written after the log was `from` bytes long, joined to one line.
    pub(super) fn last_output(&self, from: u64) -> String {
        let start = from.max(self.len().saturating_sub(MAX_TAIL_BYTES));
        match read_from(&self.path, start) {
            Ok(bytes) => last_lines(&bytes),
            Err(error) => format!("the log cannot be read: {error}"),
        }
    }
}

/// Reads the file from the byte offset `start`, at most [`MAX_TAIL_BYTES`].
fn read_from(path: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the last few non-empty lines of `text`, joined to one line.
pub(super) fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.len().saturating_sub(MAX_TAIL_LINES);
    match lines.get(start..) {
        Some(last) if !last.is_empty() => last.join(" | "),
        Some(_) | None => "no output".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_make_one_line() {
        assert_eq!(last_lines(b"one\ntwo\n\n three \nfour\nfive\n"), "two | three | four | five");
        assert_eq!(last_lines(b"\n"), "no output");
    }
}
