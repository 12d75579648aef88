//! A wall clock that the run can skew for single processes, through libfaketime. Monotonic time stays correct.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::BoxError;

/// Paths of Debian's package `libfaketime`.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A library that is preloaded into a process and reads the clock's offset from a file.
#[derive(Debug, Clone)]
pub(super) struct FakeClock {
    library: PathBuf,
    offset_file: PathBuf,
}

impl FakeClock {
    /// A clock without offset; `None` on a machine without libfaketime.
    pub(super) fn new(directory: &Path) -> Result<Option<Self>, BoxError> {
        let library = LIBRARIES.into_iter().map(PathBuf::from).find(|library| library.exists());
        let Some(library) = library else { return Ok(None) };
        let clock = Self { library, offset_file: directory.join("clock") };
        clock.set_offset(0)?;
        Ok(Some(clock))
    }

    /// Sets the offset in seconds. Processes read it within one second.
    pub(super) fn set_offset(&self, seconds: i64) -> Result<(), BoxError> {
        let new = self.offset_file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, &self.offset_file)?)
    }

    /// Environment variables that make a process use this clock.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset_file.clone().into()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// Removes the shared memory that libfaketime leaves behind when the process with this pid is killed.
    pub(super) fn remove_shared_memory(pid: u32) {
        for file in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            drop(std::fs::remove_file(Path::new("/dev/shm").join(file)));
        }
    }
}
