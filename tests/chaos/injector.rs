//! Injects the scheduled faults and ends them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookhub::domain::time::UnixMillis;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::BoxError;
use super::checker::DuplicateWindow;
use super::cluster::Cluster;
use super::link::LinkState;
use super::receiver_process::ReceiverProcess;
use super::schedule::{Fault, ScheduledFault};
use super::topology::Behavior;

/// Longest time between a response of a receiver and the commit of its result. The hub records about every 50 ms, but
/// the commit may wait for disk and CPU that other processes use.
const MAX_RECORD_DELAY: Duration = Duration::from_secs(3);
/// Longest time for which a request that is in flight when its node stops can still reach the receiver.
const MAX_IN_FLIGHT: Duration = Duration::from_millis(1_500);
/// Longest time a node needs to record results, or to learn that it may not, once Postgres is back.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The processes that the faults act on.
pub(super) struct Targets {
    pub(super) cluster: Arc<Cluster>,
    pub(super) receivers: Arc<ReceiverProcess>,
}

struct Injector {
    targets: Targets,
    windows: Mutex<Vec<DuplicateWindow>>,
    fault_log: Mutex<File>,
}

/// Injects all faults at their times after `start`, and writes the actual times to the file `fault_log`.
///
/// Returns the windows in which the faults allow duplicate deliveries.
pub(super) async fn run(
    faults: &[ScheduledFault],
    start: Instant,
    targets: Targets,
    fault_log: &Path,
) -> Result<Vec<DuplicateWindow>, BoxError> {
    let injector = Arc::new(Injector {
        targets,
        windows: Mutex::default(),
        fault_log: Mutex::new(File::create(fault_log)?),
    });
    let mut tasks = JoinSet::new();
    for (index, scheduled) in faults.iter().enumerate() {
        let (injector, scheduled) = (Arc::clone(&injector), *scheduled);
        tasks.spawn(async move { injector.carry_out(index, scheduled, start).await });
    }
    for result in tasks.join_all().await {
        result?;
    }
    Ok(injector.windows.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

impl Injector {
    async fn carry_out(
        &self,
        index: usize,
        scheduled: ScheduledFault,
        start: Instant,
    ) -> Result<(), BoxError> {
        sleep_until(start + scheduled.start).await;
        let from = UnixMillis::now();
        self.write("begins", from, scheduled.fault)?;
        self.begin(scheduled.fault).await?;
        sleep_until(start + scheduled.end()).await;
        let before_end = UnixMillis::now();
        self.end(scheduled.fault).await?;
        let to = UnixMillis::now();
        self.write("ends  ", to, scheduled.fault)?;
        let window = |from: UnixMillis, to: UnixMillis| DuplicateWindow { fault: index, from, to };
        let around_begin = window(from.before(MAX_RECORD_DELAY), from.after(MAX_IN_FLIGHT));
        let windows = match scheduled.fault {
            Fault::SkewClock(_) | Fault::Receiver(..) => vec![],
            Fault::KillNode(_) => vec![around_begin],
            Fault::TerminateNode(_) => {
                vec![window(from.before(MAX_RECORD_DELAY), to.after(MAX_IN_FLIGHT))]
            }
            Fault::PauseNode(_) => vec![around_begin, window(before_end, to.after(MAX_IN_FLIGHT))],
            Fault::CutLink(_) | Fault::StallLink(_) | Fault::KillPostgres => {
                vec![window(from.before(MAX_RECORD_DELAY), to.after(RECONNECT_TIMEOUT))]
            }
        };
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).extend(windows);
        Ok(())
    }

    fn write(&self, word: &str, now: UnixMillis, fault: Fault) -> Result<(), BoxError> {
        let mut fault_log = self.fault_log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(writeln!(fault_log, "{now} {word} {fault}")?)
    }

    async fn begin(&self, fault: Fault) -> Result<(), BoxError> {
        let Targets { cluster, receivers } = &self.targets;
        match fault {
            Fault::KillNode(node) => cluster.nodes[node].lock().await.kill().await?,
            Fault::TerminateNode(node) => cluster.nodes[node].lock().await.request_stop()?,
            Fault::PauseNode(node) => cluster.nodes[node].lock().await.signal(Signal::SIGSTOP)?,
            Fault::SkewClock(seconds) => self.set_clock_offset(seconds).await?,
            Fault::CutLink(node) => cluster.set_link(node, LinkState::Cut),
            Fault::StallLink(node) => cluster.set_link(node, LinkState::Stalled),
            Fault::KillPostgres => cluster.postgres.lock().await.kill().await?,
            Fault::Receiver(webhook, behavior) => receivers.set_behavior(webhook, behavior).await?,
        }
        Ok(())
    }

    async fn end(&self, fault: Fault) -> Result<(), BoxError> {
        let Targets { cluster, receivers } = &self.targets;
        match fault {
            Fault::KillNode(node) => cluster.nodes[node].lock().await.start_if_down()?,
            Fault::TerminateNode(node) => {
                let mut node = cluster.nodes[node].lock().await;
                if let Some(violation) = node.wait_until_stopped().await {
                    cluster.record_violation(violation);
                }
                node.start_if_down()?;
            }
            Fault::PauseNode(node) => cluster.nodes[node].lock().await.signal(Signal::SIGCONT)?,
            Fault::SkewClock(_) => self.set_clock_offset(0).await?,
            Fault::CutLink(node) | Fault::StallLink(node) => cluster.set_link(node, LinkState::Up),
            Fault::KillPostgres => cluster.postgres.lock().await.start_again().await?,
            Fault::Receiver(webhook, _) => {
                receivers.set_behavior(webhook, Behavior::Healthy).await?;
            }
        }
        Ok(())
    }

    /// Does nothing on a machine without libfaketime.
    async fn set_clock_offset(&self, seconds: i64) -> Result<(), BoxError> {
        for node in &self.targets.cluster.nodes {
            if let Some(clock) = node.lock().await.clock() {
                clock.set_offset(seconds)?;
            }
        }
        Ok(())
    }
}
