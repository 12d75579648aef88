//! A clock of a process's own, by libfaketime; monotonic time stays as it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Anything;

/// Where Debian's package `libfaketime` has it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Preloaded into a process, it reads how far off it is from a file.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right; `None` when there is no libfaketime on this machine.
    pub(super) fn right(directory: &Path) -> Result<Option<Self>, Anything> {
        let library = LIBRARIES.into_iter().map(PathBuf::from).find(|library| library.exists());
        let Some(library) = library else { return Ok(None) };
        let clock = Self { library, file: directory.join("clock") };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// Puts it off by so many seconds; processes notice within one.
    pub(super) fn set(&self, seconds: i64) -> Result<(), Anything> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, &self.file)?)
    }

    /// What a process is told to go by it.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// Takes away what a process of that id left of the library's.
    pub(super) fn tidy_up_after(pid: u32) {
        for left in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            drop(std::fs::remove_file(Path::new("/dev/shm").join(left)));
        }
    }
}
