//! The Postgres of a run: durable, and started again each time it was killed.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::Anything;
use super::started::{self, As};

/// How long it may take to start; its killed predecessor's sessions must end first.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// A cluster, and the postmaster on it if there is one.
pub(super) struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    postmaster: Option<Child>,
}

impl Postgres {
    /// Makes a cluster below `directory`, starts it, and makes the hub's database in it.
    pub(super) async fn start(binaries: &Path, directory: &Path) -> Result<Self, Anything> {
        let home = directory.join("postgres");
        std::fs::create_dir(&home)?;
        if let Some(user) = started::postgres_user()? {
            chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let mut postgres = Self {
            binaries: binaries.to_owned(),
            directory: home,
            log: directory.join("postgres.log"),
            postmaster: None,
        };
        let mut initdb =
            started::command(binaries.join("initdb"), As::PostgresUser, Signal::SIGKILL)?;
        initdb.arg("-D").arg(postgres.directory.join("data"));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        if !started::logged(&mut initdb, &postgres.log)?.status().await?.success() {
            return Err(format!("initdb failed, see {}", postgres.log.display()).into());
        }
        postgres.run().await?;
        let mut connection = PgConnection::connect_with(&postgres.options("postgres")).await?;
        connection.execute("CREATE DATABASE hookhub").await?;
        connection.close().await?;
        Ok(postgres)
    }

    /// Its Unix socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.directory)
            .username("postgres")
            .database(database)
    }

    /// Starts it, as often as its predecessor's sessions are still there, until it takes connections.
    pub(super) async fn run(&mut self) -> Result<(), Anything> {
        let began = Instant::now();
        while began.elapsed() < START {
            let ended = match self.postmaster.as_mut() {
                Some(postmaster) => postmaster.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                self.postmaster = Some(self.launch()?);
            }
            let options = self.options("postgres");
            let connecting = PgConnection::connect_with(&options);
            if let Ok(Ok(connection)) = timeout(STOP, connecting).await {
                drop(connection.close().await);
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(format!("Postgres does not start, see {}", self.log.display()).into())
    }

    fn launch(&self) -> Result<Child, Anything> {
        let program = self.binaries.join("postgres");
        let mut command = started::command(program, As::PostgresUser, Signal::SIGQUIT)?;
        command.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=100"]);
        command.args(["-c", "log_line_prefix=%m [%p] ", "-c", "log_timezone=UTC"]);
        Ok(started::logged(&mut command, &self.log)?.spawn()?)
    }

    /// `kill -9` of the postmaster; its sessions notice and end by themselves.
    pub(super) async fn kill(&mut self) -> Result<(), Anything> {
        match self.postmaster.take() {
            Some(mut postmaster) => Ok(postmaster.kill().await?),
            None => Ok(()),
        }
    }

    /// Ends it with all its sessions, at once.
    pub(super) async fn end(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let asked = started::signal(&postmaster, Signal::SIGQUIT).is_ok();
        if !asked || timeout(STOP, postmaster.wait()).await.is_err() {
            drop(postmaster.kill().await);
        }
    }
}
