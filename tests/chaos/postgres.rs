//! The Postgres server of a run: durable, and restarted after each kill.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::BoxError;
use super::process::{self, RunAs};

/// Time limit of a start. The sessions of the killed predecessor must end first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A database cluster, and its postmaster while one runs.
pub(super) struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    postmaster: Option<Child>,
}

impl Postgres {
    /// Creates a database cluster below `directory`, starts it, and creates the hub's database.
    pub(super) async fn start(binaries: &Path, directory: &Path) -> Result<Self, BoxError> {
        let server_directory = directory.join("postgres");
        std::fs::create_dir(&server_directory)?;
        if let Some(user) = process::postgres_user()? {
            chown(&server_directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let mut postgres = Self {
            binaries: binaries.to_owned(),
            directory: server_directory,
            log: directory.join("postgres.log"),
            postmaster: None,
        };
        let mut initdb =
            process::command(binaries.join("initdb"), RunAs::PostgresUser, Signal::SIGKILL)?;
        initdb.arg("-D").arg(postgres.directory.join("data"));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        if !process::log_to(&mut initdb, &postgres.log)?.status().await?.success() {
            return Err(format!("initdb failed; see {}", postgres.log.display()).into());
        }
        postgres.start_again().await?;
        let mut connection = PgConnection::connect_with(&postgres.options("postgres")).await?;
        connection.execute("CREATE DATABASE hookhub").await?;
        connection.close().await?;
        Ok(postgres)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.directory)
            .username("postgres")
            .database(database)
    }

    /// Launches the postmaster until it accepts connections: a launch fails while sessions of its predecessor remain.
    pub(super) async fn start_again(&mut self) -> Result<(), BoxError> {
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            let exited = match self.postmaster.as_mut() {
                Some(postmaster) => postmaster.try_wait()?.is_some(),
                None => true,
            };
            if exited {
                self.postmaster = Some(self.launch()?);
            }
            let options = self.options("postgres");
            let connecting = PgConnection::connect_with(&options);
            if let Ok(Ok(connection)) = timeout(STOP_TIMEOUT, connecting).await {
                drop(connection.close().await);
                return Ok(());
            }
            sleep(RETRY_DELAY).await;
        }
        Err(format!("Postgres does not start; see {}", self.log.display()).into())
    }

    fn launch(&self) -> Result<Child, BoxError> {
        let program = self.binaries.join("postgres");
        let mut command = process::command(program, RunAs::PostgresUser, Signal::SIGQUIT)?;
        command.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=100"]);
        command.args(["-c", "log_line_prefix=%m [%p] ", "-c", "log_timezone=UTC"]);
        Ok(process::log_to(&mut command, &self.log)?.spawn()?)
    }

    /// `kill -9` of the postmaster. Its sessions detect that and exit.
    pub(super) async fn kill(&mut self) -> Result<(), BoxError> {
        match self.postmaster.take() {
            Some(mut postmaster) => Ok(postmaster.kill().await?),
            None => Ok(()),
        }
    }

    /// Immediate shutdown of the postmaster and its sessions.
    pub(super) async fn stop(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let signalled = process::signal(&postmaster, Signal::SIGQUIT).is_ok();
        if !signalled || timeout(STOP_TIMEOUT, postmaster.wait()).await.is_err() {
            drop(postmaster.kill().await);
        }
    }
}
