//! The composition root: builds the hub's parts, starts them, and stops them in two stages.
//!
//! Start: the listening address, Postgres, the schema, the core (keys, log, quotas), the admin key, the node's lease,
//! HTTP, maintenance, delivery. Stop: first no new requests or deliveries are accepted and running ones finish; then,
//! at the latest after the stop deadline, all tasks end and the database connections close.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access::idempotency::Claims;
use crate::access::keys::{KeyCache, Keys};
use crate::access::quotas::TenantQuotas;
use crate::api::{self, Api, ApiSettings, Secrets};
use crate::config::{Database, Settings};
use crate::delivery::{self, Dispatcher, DispatcherSettings, VerifierSettings};
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::egress::origin::HubIdentity;
use crate::domain::encryption::Encryptor;
use crate::domain::retention::Retention;
use crate::embedded::{EmbeddedError, EmbeddedPostgres, EmbeddedSettings};
pub use crate::key_files::KeyFileError;
use crate::key_files::admin_key;
pub use crate::key_files::admin_key::AdminKey;
use crate::key_files::master_key;
use crate::log::{Log, LogObserver};
use crate::maintenance::{disk_usage, housekeeping, reencryption, retention};
use crate::metrics::Metrics;
use crate::server::{self, ServerHandle};
use crate::store::nodes::NodeName;
use crate::store::{Store, StoreError};
use crate::streaming::presence::Presence;
use crate::streaming::{self, Streams};

/// How long each step of a start waits for the database while it is unavailable.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// The time for each step of closing, after requests and deliveries have ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why the hub did not start, as one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database did not accept connections, or the schema could not be migrated.
    #[error("DATABASE_URL: {0}")]
    Database(StoreError),
    #[error("cannot read or write the admin key in {0}")]
    AdminKey(KeyFileError),
    #[error("cannot read or write the master key in {0}")]
    MasterKey(KeyFileError),
    /// The database holds secrets that are encrypted with keys that this node lacks.
    #[error(
        "HOOKHUB_MASTER_KEY: this database is encrypted with another key (id {}); set that key or, to rotate it, the new \
         key and that key, separated by a comma; unless HOOKHUB_MASTER_KEY is set, the key is read from {}",
        ids.join(", "), file.display()
    )]
    OtherMasterKey {
        /// The ids of the missing keys.
        ids: Vec<String>,
        /// The file that holds the key unless the setting does.
        file: PathBuf,
    },
    #[error("HOOKHUB_LISTEN (--listen): cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot create the HTTP client for callbacks: {0}")]
    Callbacks(Box<dyn std::error::Error + Send + Sync>),
}

/// The work that a stop did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopReport {
    /// Attempts that the stop cut off. Another node, or this one after its next start, repeats them.
    pub deliveries_left: usize,
}

#[derive(Debug)]
pub struct Hub {
    address: SocketAddr,
    admin_key: AdminKey,
    server: ServerHandle,
    stopping: CancellationToken,
    requests_ended: CancellationToken,
    closing: CancellationToken,
    tasks: TaskTracker,
    dispatcher: tokio::task::JoinHandle<usize>,
    store: Store,
    embedded: Option<EmbeddedPostgres>,
    stop_deadline: Duration,
}

impl Hub {
    /// The hub serves requests when this returns. After an error the embedded Postgres is stopped.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // Fails if a second hub in one process has installed the provider already, which does no harm.
        drop(rustls::crypto::ring::default_provider().install_default());
        // The address first: the most likely error appears before anything else has started.
        let cannot_listen = |error| StartError::Listen { address: settings.listen, error };
        let listener = TcpListener::bind(settings.listen).map_err(cannot_listen)?;
        let (embedded, url) = prepare_database(&settings).await?;
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

    /// Starts everything that needs the database at `url`, and then serves HTTP on `listener`.
    async fn start_on(
        settings: &Settings,
        url: &str,
        listener: TcpListener,
    ) -> Result<Self, StartError> {
        let cannot_listen = |error| StartError::Listen { address: settings.listen, error };
        let address = listener.local_addr().map_err(cannot_listen)?;
        let store = open_store(settings, url).await?;
        let node = NodeName { id: Uuid::new_v4(), address: address.to_string() };
        let core = Core::start(settings, store, node).await?;
        let (stream_token_key, verification_token_key) = load_token_keys(&core.store).await?;
        let dispatcher = core.new_dispatcher(settings, &verification_token_key)?;
        let streams = core.new_streams(settings);
        // The admin key late: a new key is shown only if the start succeeds.
        let admin_key = admin_key::load(settings.admin_key.clone(), &settings.data_dir)
            .map_err(StartError::AdminKey)?;
        let secrets = Secrets {
            admin_key: admin_key.as_str(),
            stream_tokens: &stream_token_key,
            verification_tokens: &verification_token_key,
        };
        let api = core.new_api(settings, &streams, &secrets);
        retry_until_available(async || dispatcher.register_node().await).await?;
        let server = server::start(settings, listener, api, &streams, &core.stopping)
            .map_err(cannot_listen)?;
        let handle = server.handle();
        core.tasks.spawn(server);
        core.start_maintenance(settings.retention);
        let requests_ended = CancellationToken::new();
        let running =
            dispatcher.run(core.stopping.clone(), settings.stop_deadline, requests_ended.clone());
        let dispatcher = core.tasks.spawn(running);
        let Core { store, tasks, stopping, closing, .. } = core;
        Ok(Self {
            address,
            admin_key,
            server: handle,
            stopping,
            requests_ended,
            closing,
            tasks,
            dispatcher,
            store,
            embedded: None,
            stop_deadline: settings.stop_deadline,
        })
    }

    /// Returns the address on which the hub accepts connections, with the actual port if the settings contain port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_key(&self) -> &AdminKey {
        &self.admin_key
    }

    /// Stops the hub in two stages. First, no new work starts, and running work has until the stop deadline to finish.
    /// Then all tasks end and the database connections close.
    pub async fn stop(mut self) -> StopReport {
        let deadline = Instant::now() + self.stop_deadline;
        tracing::info!(deadline = ?self.stop_deadline, "stopping: no new requests or deliveries are accepted");
        let deliveries_left = self.finish_running_work().await;
        self.close(deadline).await;
        tracing::info!(deliveries_left, "stopped");
        StopReport { deliveries_left }
    }

    /// Refuses new work and waits for the running work. Returns the number of attempts that were cut off.
    async fn finish_running_work(&mut self) -> usize {
        self.stopping.cancel();
        let requests = async {
            if timeout(self.stop_deadline, self.server.stop(true)).await.is_err() {
                tracing::warn!("requests were still running at the deadline");
                self.server.stop(false).await;
            }
            self.requests_ended.cancel();
        };
        let ((), deliveries_left) = tokio::join!(requests, &mut self.dispatcher);
        deliveries_left.unwrap_or_default()
    }

    /// Ends all tasks and the database. An embedded Postgres has until `deadline`, at least [`CLOSE_TIMEOUT`].
    async fn close(self, deadline: Instant) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks were still running at the deadline");
        }
        if timeout(CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("connections to the database were still in use at the deadline");
        }
        if let Some(embedded) = self.embedded {
            let left = deadline.saturating_duration_since(Instant::now());
            embedded.stop(left.max(CLOSE_TIMEOUT)).await;
        }
    }
}

/// The parts that all other parts work with.
struct Core {
    node: NodeName,
    store: Store,
    log: Log,
    keys: Keys,
    claims: Claims,
    quotas: Arc<TenantQuotas>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    closing: CancellationToken,
}

impl Core {
    /// Starts each part with its background tasks. Waits for the database if it is unavailable.
    async fn start(settings: &Settings, store: Store, node: NodeName) -> Result<Self, StartError> {
        let (tasks, metrics) = (TaskTracker::new(), Arc::<Metrics>::default());
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        let key_cache = Arc::<KeyCache>::default();
        let observers: Vec<Arc<dyn LogObserver>> =
            vec![Arc::<KeyCache>::clone(&key_cache), Arc::<Metrics>::clone(&metrics)];
        let keys = Keys::start(node.id, store.clone(), key_cache, &tasks, closing.clone());
        let claims = Claims::start(node.id, store.clone(), &tasks, closing.clone());
        let log = retry_until_available(async || {
            Log::start(node.id, store.clone(), observers.clone(), &tasks, closing.clone()).await
        });
        let log = log.await?;
        let quotas = Arc::new(TenantQuotas::new(settings.quotas));
        retry_until_available(async || quotas.reload(&store).await).await?;
        tasks.spawn(Arc::clone(&quotas).follow(store.clone(), stopping.clone()));
        Ok(Self { node, store, log, keys, claims, quotas, metrics, tasks, stopping, closing })
    }

    /// Builds the dispatcher, but does not start it. `verification_token_key` signs the tokens with which receivers
    /// confirm. Fails with [`StartError::Callbacks`] if the HTTP client for callbacks cannot be created.
    fn new_dispatcher(
        &self,
        settings: &Settings,
        verification_token_key: &[u8],
    ) -> Result<Dispatcher, StartError> {
        let parts = delivery::Parts {
            node: self.node.clone(),
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            metrics: Arc::clone(&self.metrics),
            tasks: self.tasks.clone(),
        };
        let settings = DispatcherSettings {
            egress: settings.egress.clone(),
            schedule: settings.retry_schedule.clone(),
            verifier: VerifierSettings {
                sender: hub_identity(settings),
                token_key: verification_token_key.into(),
            },
        };
        Dispatcher::new(parts, settings).map_err(StartError::Callbacks)
    }

    /// Builds the part that sends events to open streams and to requests that wait for events.
    fn new_streams(&self, settings: &Settings) -> Arc<Streams> {
        let parts = streaming::Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            presence: Presence::new(settings.stream_limits, Arc::clone(&self.quotas)),
        };
        Arc::new(Streams::new(parts, self.stopping.clone(), settings.stop_deadline / 2))
    }

    /// Builds the state that all HTTP handlers share. Starts no task.
    fn new_api(&self, settings: &Settings, streams: &Arc<Streams>, secrets: &Secrets<'_>) -> Api {
        let parts = api::Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            keys: self.keys.clone(),
            claims: self.claims.clone(),
            metrics: Arc::clone(&self.metrics),
            streams: Arc::clone(streams),
        };
        let settings = ApiSettings {
            targets: settings.egress.targets.clone(),
            origin: hub_identity(settings).origin,
            quotas: Arc::clone(&self.quotas),
            body_deadline: settings.client_timeouts.body,
            trusted_proxies: settings.trusted_proxies.clone(),
            stopping: self.stopping.clone(),
        };
        Api::new(parts, secrets, settings)
    }

    /// Starts the tasks that maintain the tables: housekeeping, retention, disk usage and re-encryption.
    fn start_maintenance(&self, retention: Retention) {
        let (store, metrics) = (&self.store, || Arc::clone(&self.metrics));
        let stop = &self.stopping;
        self.tasks.spawn(housekeeping::run(store.clone(), self.closing.clone()));
        let log = self.log.clone();
        self.tasks.spawn(retention::run(log, store.clone(), metrics(), retention, stop.clone()));
        self.tasks.spawn(disk_usage::run(metrics(), store.clone(), stop.clone()));
        self.tasks.spawn(reencryption::run(metrics(), store.clone(), stop.clone()));
    }
}

fn hub_identity(settings: &Settings) -> HubIdentity {
    HubIdentity::new(settings.webhook_origin.clone(), settings.public_url.clone())
}

/// The URL of the database. If the settings name none, first starts the embedded Postgres.
async fn prepare_database(
    settings: &Settings,
) -> Result<(Option<EmbeddedPostgres>, String), StartError> {
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

/// The keys for stream tokens and for verification tokens. All nodes share them; the first node creates them.
async fn load_token_keys(store: &Store) -> Result<(Vec<u8>, Vec<u8>), StartError> {
    let secret = async |name| {
        let fresh: [u8; 32] = rand::random();
        retry_until_available(async || store.select_or_insert_shared_secret(name, &fresh).await)
            .await
    };
    Ok((secret("stream_tokens").await?, secret("consents").await?))
}

/// Connects, migrates, creates partitions and sets the master key. With the embedded Postgres, deletes former nodes.
/// Fails if the database needs a master key that this node does not have.
async fn open_store(settings: &Settings, url: &str) -> Result<Store, StartError> {
    let keys = master_key::load(settings.master_key.as_ref(), &settings.data_dir)
        .map_err(StartError::MasterKey)?;
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
        retry_until_available(async || store.delete_all_nodes().await).await?;
    }
    Ok(store)
}

/// Repeats `step` for at most [`DATABASE_TIMEOUT`] while the database is unavailable, as when it is starting.
async fn retry_until_available<T>(
    mut step: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StartError> {
    let deadline = Instant::now() + DATABASE_TIMEOUT;
    let mut delays = reconnect_delays();
    loop {
        match step().await {
            Err(StoreError::Unavailable(reason)) if Instant::now() < deadline => {
                tracing::warn!(%reason, "waiting for the database");
                tokio::time::sleep(delays.next().unwrap_or(CLOSE_TIMEOUT)).await;
            }
            done => return done.map_err(StartError::Database),
        }
    }
}
