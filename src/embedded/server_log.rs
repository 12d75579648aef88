//! What Postgres says: its log file, kept to a bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::EmbeddedError;

/// Past this size the log is set aside, in bytes; with the one set aside it takes at most about twice this.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;

/// How far back the last words are looked for, in bytes.
const MAX_TAIL_BYTES: u64 = 4096;

/// How many lines the last words are.
const MAX_TAIL_LINES: usize = 4;

/// The log file of the embedded Postgres.
#[derive(Debug)]
pub(super) struct ServerLog {
    path: PathBuf,
}

impl ServerLog {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the log to append to.
    pub(super) fn open(&self) -> Result<File, EmbeddedError> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(EmbeddedError::io("open", &self.path))
    }

    /// Sets a log that has grown too long aside as `postgres.log.1`. Postgres keeps its file open, so that is
    /// copied and emptied, not renamed.
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

    /// The length of the log, in bytes.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The last lines written after the log was `from` bytes long, as one line.
    pub(super) fn last_output(&self, from: u64) -> String {
        let start = from.max(self.len().saturating_sub(MAX_TAIL_BYTES));
        match read_from(&self.path, start) {
            Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}

fn read_from(path: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last few lines of `text` that say something, as one line.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.len().saturating_sub(MAX_TAIL_LINES);
    match lines.get(start..) {
        Some(last) if !last.is_empty() => last.join(" | "),
        Some(_) | None => "it said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_make_one_line() {
        assert_eq!(last_lines("one\ntwo\n\n three \nfour\nfive\n"), "two | three | four | five");
        assert_eq!(last_lines("\n"), "it said nothing");
    }
}
