//! Putting the hub together, starting it, and letting it stop in two stages.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access::quotas::QuotasInForce;
use crate::api::{Api, Limits, Secrets};
use crate::config::{Database, Settings};
use crate::delivery::{Dispatcher, VerifierSettings};
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::egress::origin::Sender;
use crate::domain::encryption::Sealer;
use crate::domain::retention::Retention;
use crate::embedded::{EmbeddedError, EmbeddedPostgres, EmbeddedSettings};
use crate::key_files::admin_key;
pub use crate::key_files::admin_key::AdminKey;
use crate::key_files::master_key;
use crate::log::Log;
use crate::maintenance::{disk_usage, housekeeping, reencryption, retention};
use crate::server;
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};
use crate::streaming::Streams;
use crate::streaming::presence::Presence;

/// How long a start waits for the database to take connections.
const DATABASE_DEADLINE: Duration = Duration::from_secs(60);
/// How long the last things may take once requests and deliveries have come to an end.
const LET_GO_DEADLINE: Duration = Duration::from_secs(5);

/// Why the hub did not start: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The private Postgres did not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database did not take connections, or its schema could not be brought to this version.
    #[error("DATABASE_URL: {0}")]
    Database(StoreError),
    /// The admin key could not be read or kept.
    #[error("the admin key in {}: {error}", path.display())]
    AdminKey {
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The master key could not be read or kept.
    #[error("the master key in {}: {error}", path.display())]
    MasterKey {
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The master key is not the one, or not the only one, that the database needs.
    #[error(
        "HOOKHUB_MASTER_KEY: this database was sealed with another key (id {}); give that one, or, to change it, the new \
         one and that one after it, comma separated; without HOOKHUB_MASTER_KEY the key is the one in {}",
        ids.join(", "), file.display()
    )]
    OtherMasterKey {
        /// The keys that are missing.
        ids: Vec<String>,
        /// Where the key is kept when it is not given.
        file: PathBuf,
    },
    /// The address is taken, or not this machine's.
    #[error("HOOKHUB_LISTEN (--listen): cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        error: io::Error,
    },
    /// The HTTP client for callbacks could not be made.
    #[error("callbacks: {0}")]
    Callbacks(Box<dyn std::error::Error + Send + Sync>),
}

/// What a stop left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopReport {
    /// Deliveries that were still running; they are made again after the next start.
    pub deliveries_left: usize,
}

/// A running hub.
#[derive(Debug)]
pub struct Hub {
    address: SocketAddr,
    admin_key: AdminKey,
    server: ServerHandle,
    stopping: CancellationToken,
    let_go: CancellationToken,
    tasks: TaskTracker,
    dispatcher: tokio::task::JoinHandle<usize>,
    store: Store,
    embedded: Option<EmbeddedPostgres>,
    stop_deadline: Duration,
}

impl Hub {
    /// Starts everything; the hub takes requests when this returns.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // The first provider stays; a second hub in one process finds it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        // The address first: that it is taken shall not come out after everything else has been started.
        let listener = TcpListener::bind(settings.listen)
            .map_err(|error| StartError::Listen { address: settings.listen, error })?;
        let (embedded, url) = database(&settings).await?;
        match Self::start_on(&settings, &url, listener).await {
            Ok(hub) => Ok(Self { embedded, ..hub }),
            Err(error) => {
                if let Some(embedded) = embedded {
                    embedded.stop(settings.stop_deadline).await;
                }
                Err(error)
            }
        }
    }

    async fn start_on(
        settings: &Settings,
        url: &str,
        listener: TcpListener,
    ) -> Result<Self, StartError> {
        let store = open_store(settings, url).await?;
        let (stopping, let_go, tasks) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen { address: settings.listen, error })?;
        let node = NodeName { id: Uuid::new_v4(), address: address.to_string() };
        let start = async || Log::start(node.id, store.clone(), &tasks, let_go.clone()).await;
        let log = patiently(start).await.map_err(StartError::Database)?;
        let (stream_tokens, consents) = shared_secrets(&store).await?;
        let asker =
            VerifierSettings { sender: sender(settings), token_key: consents.as_slice().into() };
        let callbacks = (settings.egress.clone(), settings.retry_schedule.clone(), asker);
        let dispatcher =
            Dispatcher::new(node, log.clone(), store.clone(), callbacks, tasks.clone())
                .map_err(StartError::Callbacks)?;
        let quotas = quotas_in_force(settings, &store, &tasks, &stopping).await?;
        let streams = Arc::new(Streams::new(
            log.clone(),
            store.clone(),
            Presence::new(settings.max_streams, Arc::clone(&quotas)),
            stopping.clone(),
            settings.stop_deadline / 2,
        ));
        // The admin key last: once it is made, the start succeeds and it is shown.
        let admin_key = admin_key::load(settings.admin_key.clone(), &settings.data_dir)
            .map_err(|(path, error)| StartError::AdminKey { path, error })?;
        let secrets = Secrets {
            admin_key: admin_key.as_str(),
            stream_tokens: &stream_tokens,
            consents: &consents,
        };
        let api = Api::new(
            log.clone(),
            store.clone(),
            Arc::clone(&streams),
            &secrets,
            limits(settings, quotas, &stopping),
        );
        patiently(async || dispatcher.enlist().await).await.map_err(StartError::Database)?;
        let server = server::start(settings, listener, web::Data::new(api), &streams, &stopping)
            .map_err(|error| StartError::Listen { address: settings.listen, error })?;
        let handle = server.handle();
        tasks.spawn(server);
        tasks.spawn(housekeeping::run(store.clone(), let_go.clone()));
        look_after_log(&log, &store, settings.retention, &tasks, &stopping);
        let dispatcher = tasks.spawn(dispatcher.run(stopping.clone(), settings.stop_deadline));
        Ok(Self {
            address,
            admin_key,
            server: handle,
            stopping,
            let_go,
            tasks,
            dispatcher,
            store,
            embedded: None,
            stop_deadline: settings.stop_deadline,
        })
    }

    /// Where HTTP is answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin key.
    pub fn admin_key(&self) -> &AdminKey {
        &self.admin_key
    }

    /// Stops: takes no more, lets what runs come to an end within the deadline, records it, then lets go.
    pub async fn stop(self) -> StopReport {
        let deadline = Instant::now() + self.stop_deadline;
        tracing::info!(deadline = ?self.stop_deadline, "stopping: no more requests or deliveries are taken up");
        self.stopping.cancel();
        let requests = timeout(self.stop_deadline, self.server.stop(true));
        let (requests, deliveries_left) = tokio::join!(requests, self.dispatcher);
        if requests.is_err() {
            tracing::warn!("requests were still running at the deadline");
            self.server.stop(false).await;
        }
        let deliveries_left = deliveries_left.unwrap_or_default();
        self.let_go.cancel();
        self.tasks.close();
        if timeout(LET_GO_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks were still running at the deadline");
        }
        if timeout(LET_GO_DEADLINE, self.store.close()).await.is_err() {
            tracing::warn!("connections to the database were still in use at the deadline");
        }
        if let Some(embedded) = self.embedded {
            embedded
                .stop(deadline.saturating_duration_since(Instant::now()).max(LET_GO_DEADLINE))
                .await;
        }
        tracing::info!(deliveries_left, "stopped");
        StopReport { deliveries_left }
    }
}

/// Who the hub is to receivers.
fn sender(settings: &Settings) -> Sender {
    Sender::new(settings.webhook_origin.clone(), settings.public_url.clone())
}

fn limits(settings: &Settings, quotas: Arc<QuotasInForce>, stopping: &CancellationToken) -> Limits {
    Limits {
        targets: settings.egress.targets.clone(),
        origin: sender(settings).origin,
        quotas,
        body_deadline: settings.patience.body,
        trusted_proxies: settings.trusted_proxies.clone(),
        stopping: stopping.clone(),
    }
}

/// Starts what keeps the log to its length, what measures it, and what seals anew.
fn look_after_log(
    log: &Log,
    store: &Store,
    kept: Retention,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    tasks.spawn(retention::run(log.clone(), store.clone(), kept, stop.clone()));
    tasks.spawn(disk_usage::run(log.clone(), store.clone(), stop.clone()));
    tasks.spawn(reencryption::run(log.clone(), store.clone(), stop.clone()));
}

/// The quotas, read before the first request is taken, and followed.
async fn quotas_in_force(
    settings: &Settings,
    store: &Store,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<QuotasInForce>, StartError> {
    let quotas = Arc::new(QuotasInForce::new(settings.quotas));
    let look = async || quotas.look_anew(store).await;
    patiently(look).await.map_err(StartError::Database)?;
    tasks.spawn(Arc::clone(&quotas).follow(store.clone(), stop.clone()));
    Ok(quotas)
}

async fn database(settings: &Settings) -> Result<(Option<EmbeddedPostgres>, String), StartError> {
    match &settings.database {
        Database::Url(url) => Ok((None, url.clone())),
        Database::Embedded { binaries } => {
            let embedded = EmbeddedPostgres::start(&EmbeddedSettings {
                data_dir: settings.data_dir.clone(),
                binaries: binaries.clone(),
                path: settings.path.clone(),
            })
            .await?;
            let url = embedded.database_url().to_owned();
            Ok((Some(embedded), url))
        }
    }
}

/// What seals stream tokens, and what seals the texts by which receivers agree: the same on all nodes.
async fn shared_secrets(store: &Store) -> Result<(Vec<u8>, Vec<u8>), StartError> {
    let secret = async |name| {
        let fresh: [u8; 32] = rand::random();
        let kept = patiently(async || store.shared_secret(name, &fresh).await).await;
        kept.map_err(StartError::Database)
    };
    Ok((secret("stream_tokens").await?, secret("consents").await?))
}

/// The store with its schema at this version. Of a database of its own no other node holds anything.
async fn open_store(settings: &Settings, url: &str) -> Result<Store, StartError> {
    let keys = master_key::load(settings.master_key.as_ref(), &settings.data_dir)
        .map_err(|(path, error)| StartError::MasterKey { path, error })?;
    let store = Store::new(url, Sealer::new(keys)).map_err(StartError::Database)?;
    let set_up = async || {
        store.migrate().await?;
        store.create_partitions().await?;
        store.take_master_keys().await
    };
    let missing = patiently(set_up).await.map_err(StartError::Database)?;
    if !missing.is_empty() {
        let file = settings.data_dir.join(master_key::FILE);
        return Err(StartError::OtherMasterKey { ids: missing, file });
    }
    if matches!(settings.database, Database::Embedded { .. }) {
        let end = async || store.end_all_leases().await;
        patiently(end).await.map_err(StartError::Database)?;
    }
    Ok(store)
}

/// Takes a step of the start, waiting for a database that is still starting or has just gone away.
async fn patiently<T>(
    mut step: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + DATABASE_DEADLINE;
    let mut waits = reconnect_waits();
    loop {
        match step().await {
            Err(StoreError::Unavailable(reason)) if Instant::now() < deadline => {
                tracing::warn!(%reason, "waiting for the database");
                tokio::time::sleep(waits.next().unwrap_or(LET_GO_DEADLINE)).await;
            }
            done => return done,
        }
    }
}
