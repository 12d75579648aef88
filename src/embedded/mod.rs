//! The embedded Postgres: a private server in the data directory that starts and stops with the hub.
//! docs/internals/embedded-postgres.md describes it.

mod binaries;
mod cluster;
mod data_dir;
mod error;
mod leftovers;
mod readiness;
mod server;
mod server_log;
mod settings;
mod socket;
mod supervisor;
mod user;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::binaries::Binaries;
use self::data_dir::DataDir;
pub use self::error::EmbeddedError;
use self::server::Server;
pub use self::settings::EmbeddedSettings;
use self::user::ServerUser;

/// A running Postgres that only this hub uses.
///
/// A server that dies is restarted until [`stop`](Self::stop). Dropping the value stops the server too, but without
/// waiting. If the hub is killed, Postgres keeps running, and the next start on the same data directory stops it first.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    database_url: String,
    stop: oneshot::Sender<Duration>,
    tasks: TaskTracker,
}

impl EmbeddedPostgres {
    /// Creates the cluster on first use, removes leftovers of a killed hub, and waits until Postgres is ready.
    pub async fn start(settings: &EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let data_dir = DataDir::claim(&settings.data_dir)?;
        let cluster = data_dir.cluster();
        let cluster_major = cluster::version(&cluster)?;
        let user = match cluster_major {
            Some(_) => ServerUser::owner_of(&cluster)?,
            None => ServerUser::for_new_cluster()?,
        };
        let binaries = Binaries::find(settings, cluster_major, &user).await?;
        data_dir.allow_entry(&user)?;
        user.check_access(&binaries.postgres(), data_dir.root()).await?;
        cluster::ensure(&cluster, &binaries, &user).await?;
        let socket_dir = socket::prepare(&data_dir, &user)?;

        let database_url = socket::database_url(&socket_dir);
        let log = data_dir.log();
        let server = Server { binaries, user, cluster, socket_dir, log };
        let running = server.start().await?;

        let (stop, stopped) = oneshot::channel();
        let tasks = TaskTracker::new();
        tasks.spawn(supervisor::supervise(server, running, data_dir, stopped));
        tasks.close();
        Ok(Self { database_url, stop, tasks })
    }

    /// Returns the URL of the hub's database over the Unix socket, in the form that sqlx and libpq accept.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Stops Postgres and waits for its end. The fast shutdown ends every session and writes a checkpoint. After
    /// `deadline` follows an immediate shutdown, and then SIGKILL. They leave recovery to the next start; nothing
    /// committed is lost.
    pub async fn stop(self, deadline: Duration) {
        if self.stop.send(deadline).is_err() {
            tracing::error!("the supervisor of the embedded Postgres had already ended");
        }
        self.tasks.wait().await;
    }
}
