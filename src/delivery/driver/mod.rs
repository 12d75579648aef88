//! Drives the engine. The engine decides and does no I/O; the driver does the I/O and decides nothing about deliveries.
//!
//! [`Driver::run`] is a loop around [`Driver::step`]. A step puts one input into the engine (`handle_*`), then takes
//! out the actions that may start now (`poll_*`) and starts them as tasks. A task whose result the engine needs ends
//! with a [`Completion`], which is an input of a later step. The step itself never waits for the network, and for the
//! database only after a failover.
//!
//! `docs/internals/driver.md` describes the files.

mod completions;
mod effects;
mod exhausted;
mod feed;
pub(super) mod lease;
mod metrics;
mod outputs;
mod sharding;
mod state;
mod status_transition;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::effects::Completion;
use self::feed::LogEntry;
use self::state::IDLE_FLUSH_INTERVAL;
pub(super) use self::state::{Driver, DriverParts};
use crate::domain::time::UnixMillis;

/// A step handles at most this many completions.
const MAX_BATCH: usize = 256;

/// The input of one step.
enum Input {
    LogEntries(Vec<LogEntry>),
    /// At most [`MAX_BATCH`].
    Completions(Vec<Completion>),
    LeaseRenewed,
    TimerExpired,
    StopRequested,
}

impl Driver {
    /// Delivers events until `stop` is cancelled. Then hands over all shards and waits for attempts in flight, at most
    /// for the stop timeout. Returns the number of attempts that were cut off.
    pub(in crate::delivery) async fn run(mut self, stop: CancellationToken) -> usize {
        let end_tasks = self.ended.clone().drop_guard();
        self.carry_out();
        while !self.is_done() {
            let input = self.next_input(&stop).await;
            self.step(input).await;
        }
        self.log.set_applied(None);
        drop(end_tasks);
        self.engine.in_flight()
    }

    async fn step(&mut self, input: Input) {
        match input {
            Input::LogEntries(entries) => self.handle_log_entries(entries),
            Input::Completions(batch) => self.handle_completions(batch),
            Input::LeaseRenewed => self.handle_renewal().await,
            Input::TimerExpired => {}
            Input::StopRequested => self.begin_stop(),
        }
        self.carry_out();
    }

    /// Starts the engine's actions. Without a trusted lease or during a stop, acquires no shards and starts no
    /// attempts, reads or verifications.
    fn carry_out(&mut self) {
        self.engine.handle_time(UnixMillis::now());
        if self.stop_at.is_none() && self.lease.is_trusted() {
            self.acquire_shards_when_due();
            self.start_attempts();
            self.start_reads();
            self.start_verifications();
        }
        self.start_transitions();
        self.publish_exhausted_events();
        self.flush_when_due();
        self.release_shards();
        self.metrics.sample_when_due(&self.engine);
    }

    async fn next_input(&mut self, stop: &CancellationToken) -> Input {
        let wake_at = self.wake_at();
        // While shards are loading, the log waits: no change of their subscriptions is missed.
        let reads_log = self.stop_at.is_none() && !self.is_loading;
        tokio::select! {
            Some(entries) = next_entries(&mut self.log_entries), if reads_log => {
                Input::LogEntries(entries)
            }
            _ = self.completions.recv_many(&mut self.batch, MAX_BATCH) => {
                Input::Completions(std::mem::take(&mut self.batch))
            }
            () = sleep_until(wake_at) => Input::TimerExpired,
            () = self.lease.wait_for_renewal() => Input::LeaseRenewed,
            () = stop.cancelled(), if self.stop_at.is_none() => Input::StopRequested,
        }
    }

    /// The latest time for the next step: the earliest timer, at most [`IDLE_FLUSH_INTERVAL`] from now.
    fn wake_at(&self) -> Instant {
        let now = UnixMillis::now();
        let engine = self.engine.poll_timeout().map(|due| Instant::now() + due.since(now));
        let flush = [self.flush_at, Some(self.idle_flush_at)].into_iter().flatten().min();
        // The end of a flush in flight is an input.
        let flush = flush.filter(|_| !self.is_flushing);
        let acquire =
            (!self.is_acquiring && self.stop_at.is_none()).then_some(self.acquire_shards_at);
        let latest = Instant::now() + IDLE_FLUSH_INTERVAL;
        [engine, flush, acquire, self.stop_at].into_iter().flatten().fold(latest, Instant::min)
    }

    /// A stop has begun, and either all shards are released and nothing is being written or loaded, or the stop timeout
    /// has passed.
    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|stop_at| {
            let is_quiet = self.engine.shards().is_empty() && !self.is_flushing && !self.is_loading;
            is_quiet || Instant::now() >= stop_at
        })
    }
}

/// `None` once the feed has ended. Without a `feed`, waits forever.
async fn next_entries(feed: &mut Option<mpsc::Receiver<Vec<LogEntry>>>) -> Option<Vec<LogEntry>> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}
