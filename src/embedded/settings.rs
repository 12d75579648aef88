//! The settings of the embedded Postgres.

use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// The hub's data directory (`HOOKHUB_DATA_DIR`), created if missing. Only one hub at a time can use it.
    pub data_dir: PathBuf,
    /// The directory that holds `postgres` and `initdb` (`HOOKHUB_POSTGRES_BIN`). `None` searches [`path`](Self::path),
    /// then `/usr/lib/postgresql/*/bin`, newest first.
    pub binaries: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
}
