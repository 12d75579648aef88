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

use crate::access::idempotency::Claims;
use crate::access::keys::{Keys, Known};
use crate::access::quotas::QuotasInForce;
use crate::api::{self, Api, Limits, Secrets};
use crate::config::{Database, Settings};
use crate::delivery::{self, DeliverySettings, Dispatcher, VerifierSettings};
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::egress::origin::HubIdentity;
use crate::domain::encryption::Encryptor;
use crate::domain::retention::Retention;
use crate::embedded::{EmbeddedError, EmbeddedPostgres, EmbeddedSettings};
use crate::key_files::admin_key;
pub use crate::key_files::admin_key::AdminKey;
use crate::key_files::master_key;
use crate::log::{Log, LogObserver};
use crate::maintenance::{disk_usage, housekeeping, reencryption, retention};
use crate::metrics::Measures;
use crate::server;
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};
use crate::streaming::presence::Presence;
use crate::streaming::{self, Streams};

/// How long a start waits for the database to take connections.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long each step of closing may take once requests and deliveries have ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
    closing: CancellationToken,
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
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen { address: settings.listen, error })?;
        let store = open_store(settings, url).await?;
        let node = NodeName { id: Uuid::new_v4(), address: address.to_string() };
        let core = Core::start(settings, store, node).await?;
        let (stream_tokens, consents) = shared_secrets(&core.store).await?;
        let dispatcher = core.dispatcher(settings, &consents)?;
        let streams = core.streams(settings);
        // The admin key last: once it is made, the start succeeds and it is shown.
        let admin_key = admin_key::load(settings.admin_key.clone(), &settings.data_dir)
            .map_err(|(path, error)| StartError::AdminKey { path, error })?;
        let secrets = Secrets {
            admin_key: admin_key.as_str(),
            stream_tokens: &stream_tokens,
            verification_tokens: &consents,
        };
        let api = web::Data::new(core.api(settings, &streams, &secrets));
        retry_until_available(async || dispatcher.register_node().await).await?;
        let server = server::start(settings, listener, api, &streams, &core.stopping)
            .map_err(|error| StartError::Listen { address: settings.listen, error })?;
        let handle = server.handle();
        core.tasks.spawn(server);
        core.start_maintenance(settings.retention);
        let running = dispatcher.run(core.stopping.clone(), settings.stop_deadline);
        let dispatcher = core.tasks.spawn(running);
        let Core { store, tasks, stopping, closing, .. } = core;
        Ok(Self {
            address,
            admin_key,
            server: handle,
            stopping,
            closing,
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

    /// Stops in two stages: takes no more work and waits for running work until the deadline, then ends all tasks.
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
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks were still running at the deadline");
        }
        if timeout(CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("connections to the database were still in use at the deadline");
        }
        if let Some(embedded) = self.embedded {
            embedded
                .stop(deadline.saturating_duration_since(Instant::now()).max(CLOSE_TIMEOUT))
                .await;
        }
        tracing::info!(deliveries_left, "stopped");
        StopReport { deliveries_left }
    }
}

/// The parts that all other parts work with.
struct Core {
    node: NodeName,
    store: Store,
    log: Log,
    keys: Keys,
    claims: Claims,
    quotas: Arc<QuotasInForce>,
    metrics: Arc<Measures>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    closing: CancellationToken,
}

impl Core {
    async fn start(settings: &Settings, store: Store, node: NodeName) -> Result<Self, StartError> {
        let (tasks, metrics) = (TaskTracker::new(), Arc::<Measures>::default());
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        let key_cache = Arc::<Known>::default();
        let observers: Vec<Arc<dyn LogObserver>> = vec![key_cache.clone(), metrics.clone()];
        let keys = Keys::start(node.id, store.clone(), key_cache, &tasks, closing.clone());
        let claims = Claims::start(node.id, store.clone(), &tasks, closing.clone());
        let log = retry_until_available(async || {
            Log::start(node.id, store.clone(), observers.clone(), &tasks, closing.clone()).await
        });
        let log = log.await?;
        let quotas = Arc::new(QuotasInForce::new(settings.quotas));
        retry_until_available(async || quotas.look_anew(&store).await).await?;
        tasks.spawn(Arc::clone(&quotas).follow(store.clone(), stopping.clone()));
        Ok(Self { node, store, log, keys, claims, quotas, metrics, tasks, stopping, closing })
    }

    fn dispatcher(
        &self,
        settings: &Settings,
        verification_key: &[u8],
    ) -> Result<Dispatcher, StartError> {
        let parts = delivery::Parts {
            node: self.node.clone(),
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            metrics: Arc::clone(&self.metrics),
            tasks: self.tasks.clone(),
        };
        let settings = DeliverySettings {
            egress: settings.egress.clone(),
            schedule: settings.retry_schedule.clone(),
            verifier: VerifierSettings {
                sender: sender(settings),
                token_key: verification_key.into(),
            },
        };
        Dispatcher::new(parts, settings).map_err(StartError::Callbacks)
    }

    fn streams(&self, settings: &Settings) -> Arc<Streams> {
        let parts = streaming::Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            presence: Presence::new(settings.max_streams, Arc::clone(&self.quotas)),
        };
        Arc::new(Streams::new(parts, self.stopping.clone(), settings.stop_deadline / 2))
    }

    fn api(&self, settings: &Settings, streams: &Arc<Streams>, secrets: &Secrets<'_>) -> Api {
        let parts = api::Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            claims: self.claims.clone(),
            metrics: Arc::clone(&self.metrics),
            streams: Arc::clone(streams),
        };
        let limits = Limits {
            targets: settings.egress.targets.clone(),
            origin: sender(settings).origin,
            quotas: Arc::clone(&self.quotas),
            body_deadline: settings.patience.body,
            trusted_proxies: settings.trusted_proxies.clone(),
            stopping: self.stopping.clone(),
        };
        Api::new(parts, secrets, limits)
    }

    /// Starts the background work on the tables.
    fn start_maintenance(&self, kept: Retention) {
        let (store, metrics) = (&self.store, &self.metrics);
        let stop = &self.stopping;
        self.tasks.spawn(housekeeping::run(store.clone(), self.closing.clone()));
        let log = self.log.clone();
        self.tasks.spawn(retention::run(log, store.clone(), metrics.clone(), kept, stop.clone()));
        self.tasks.spawn(disk_usage::run(metrics.clone(), store.clone(), stop.clone()));
        self.tasks.spawn(reencryption::run(metrics.clone(), store.clone(), stop.clone()));
    }
}

/// The hub's identity towards receivers.
fn sender(settings: &Settings) -> HubIdentity {
    HubIdentity::new(settings.webhook_origin.clone(), settings.public_url.clone())
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
        retry_until_available(async || store.select_or_insert_shared_secret(name, &fresh).await)
            .await
    };
    Ok((secret("stream_tokens").await?, secret("consents").await?))
}

/// The store with its schema at this version. Of a database of its own no other node holds anything.
async fn open_store(settings: &Settings, url: &str) -> Result<Store, StartError> {
    let keys = master_key::load(settings.master_key.as_ref(), &settings.data_dir)
        .map_err(|(path, error)| StartError::MasterKey { path, error })?;
    let store = Store::new(url, Encryptor::new(keys)).map_err(StartError::Database)?;
    let set_up = async || {
        store.migrate().await?;
        store.create_partitions().await?;
        store.insert_master_key().await
    };
    let missing = retry_until_available(set_up).await?;
    if !missing.is_empty() {
        let file = settings.data_dir.join(master_key::FILE);
        return Err(StartError::OtherMasterKey { ids: missing, file });
    }
    if matches!(settings.database, Database::Embedded { .. }) {
        let end = async || store.delete_all_nodes().await;
        retry_until_available(end).await?;
    }
    Ok(store)
}

/// Repeats a step of the start while the database is unavailable: it may still be starting, or failing over.
async fn retry_until_available<T>(
    mut step: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StartError> {
    let deadline = Instant::now() + DATABASE_TIMEOUT;
    let mut waits = reconnect_delays();
    loop {
        match step().await {
            Err(StoreError::Unavailable(reason)) if Instant::now() < deadline => {
                tracing::warn!(%reason, "waiting for the database");
                tokio::time::sleep(waits.next().unwrap_or(CLOSE_TIMEOUT)).await;
            }
            done => return done.map_err(StartError::Database),
        }
    }
}
