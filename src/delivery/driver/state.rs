//! The driver's state, and how it starts tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::effects::Completion;
use super::feed::LogEntry;
use super::lease::Lease;
use super::metrics::DriverMetrics;
use crate::delivery::engine::Engine;
use crate::delivery::verification::Verifier;
use crate::delivery::webhook::Deliverer;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::nodes::ServerIdentity;

/// Cursors that move without results are recorded this often.
pub(super) const IDLE_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// Completions that wait for a step. A task whose completion does not fit waits.
const COMPLETION_CAPACITY: usize = 8_192;

/// The parts that a driver is built from.
pub(in crate::delivery) struct DriverParts {
    pub(in crate::delivery) node: Uuid,
    pub(in crate::delivery) engine: Engine,
    pub(in crate::delivery) log: Log,
    pub(in crate::delivery) store: Store,
    pub(in crate::delivery) metrics: Arc<Metrics>,
    pub(in crate::delivery) deliverer: Deliverer,
    pub(in crate::delivery) verifier: Verifier,
    pub(in crate::delivery) lease: Lease,
    pub(in crate::delivery) tasks: TaskTracker,
    pub(in crate::delivery) stop_timeout: Duration,
}

/// The engine of a node, with the tasks that do its I/O.
pub(in crate::delivery) struct Driver {
    pub(super) node: Uuid,
    pub(super) engine: Engine,
    pub(super) log: Log,
    pub(super) store: Store,
    pub(super) deliverer: Deliverer,
    pub(super) verifier: Verifier,
    pub(super) lease: Lease,
    pub(super) metrics: DriverMetrics,
    /// The database server of the last renewal.
    pub(super) server: Option<ServerIdentity>,
    /// Pages of the log. `None` before the first shard and after a failover.
    pub(super) log_entries: Option<mpsc::Receiver<Vec<LogEntry>>>,
    pub(super) completions: mpsc::Receiver<Completion>,
    /// The buffer of received completions, kept for its capacity. Empty between steps.
    pub(super) batch: Vec<Completion>,
    pub(super) attempts_started: u32,
    pub(super) reads_in_flight: usize,

    /// Live nodes, this one included, as last counted.
    pub(super) live_nodes: usize,
    pub(super) acquire_shards_at: Instant,
    pub(super) is_acquiring: bool,
    /// Shards are acquired, but the engine does not have their subscriptions yet.
    pub(super) is_loading: bool,

    pub(super) is_flushing: bool,
    /// When the oldest result that is not recorded must be flushed.
    pub(super) flush_at: Option<Instant>,
    pub(super) idle_flush_at: Instant,

    pub(super) stop_timeout: Duration,
    /// When a stop that has begun must end.
    pub(super) stop_at: Option<Instant>,
    /// Cancels the tasks of [`Self::spawn`].
    pub(super) ended: CancellationToken,
    pub(super) tasks: TaskTracker,
    sender: mpsc::Sender<Completion>,
}

impl Driver {
    pub(in crate::delivery) fn new(parts: DriverParts) -> Self {
        let (sender, completions) = mpsc::channel(COMPLETION_CAPACITY);
        let now = Instant::now();
        Self {
            node: parts.node,
            engine: parts.engine,
            log: parts.log,
            store: parts.store,
            deliverer: parts.deliverer,
            verifier: parts.verifier,
            lease: parts.lease,
            metrics: DriverMetrics::new(parts.metrics),
            server: None,
            log_entries: None,
            completions,
            batch: Vec::new(),
            attempts_started: 0,
            reads_in_flight: 0,
            live_nodes: 1,
            acquire_shards_at: now,
            is_acquiring: false,
            is_loading: false,
            is_flushing: false,
            flush_at: None,
            idle_flush_at: now + IDLE_FLUSH_INTERVAL,
            stop_timeout: parts.stop_timeout,
            stop_at: None,
            ended: CancellationToken::new(),
            tasks: parts.tasks,
            sender,
        }
    }

    /// Spawns an effect, cancelled when the driver ends. The driver handles its completion in a later step.
    pub(super) fn start(&self, effect: impl Future<Output = Completion> + Send + 'static) {
        let sender = self.sender.clone();
        self.spawn(async move {
            // The receiver is gone when the driver has ended. The next owner repeats what was not recorded.
            drop(sender.send(effect.await).await);
        });
    }

    /// Spawns a task without a completion, cancelled when the driver ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move { ended.run_until_cancelled(task).await });
    }
}
