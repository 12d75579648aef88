//! One run, from the schedule to the report.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, READY_TIMEOUT};
use super::full_disk::DiskFindings;
use super::ingress::{Ingress, text};
use super::injector::Targets;
use super::ledger::Ledger;
use super::readers::Readers;
use super::receiver_process::ReceiverProcess;
use super::report::Report;
use super::schedule::ScheduledFault;
use super::topology::{WEBHOOKS, secret};
use super::{
    BoxError, Options, checker, full_disk, injector, log_reader, pending, publishers, quiesce,
    schedule,
};

/// The part of `--minutes` that the full-disk phase takes, roughly.
const FULL_DISK_TIME: Duration = Duration::from_secs(30);
/// Delivery timeout of all webhooks, in seconds.
const TIMEOUT_S: u32 = 4;

/// A run, and the processes to end however it ends.
pub(super) struct Run {
    options: Options,
    seed: u64,
    directory: TempDir,
    cluster: Option<Arc<Cluster>>,
}

/// The faults of a run, and how long publishing lasts meanwhile.
struct Plan {
    faults: Vec<ScheduledFault>,
    length: Duration,
}

impl Run {
    pub(super) fn new(options: Options) -> Result<Self, BoxError> {
        let seed = options.seed.unwrap_or_else(|| rand::random_range(0..100_000));
        // Postgres runs as another user, which must be able to enter; and the path of a socket must be short.
        let directory = tempfile::Builder::new()
            .prefix("hookhub-chaos-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")?;
        Ok(Self { options, seed, directory, cluster: None })
    }

    /// Executes all phases; returns the number of violations.
    pub(super) async fn execute(&mut self, stop: &CancellationToken) -> Result<usize, BoxError> {
        let duration = Duration::from_secs_f64(self.options.minutes * 60.0);
        let length = duration.saturating_sub(FULL_DISK_TIME).max(Duration::from_secs(10));
        let faults = schedule::generate(self.seed, length, self.options.nodes);
        println!("seed {}: {length:.0?} with {} nodes", self.seed, self.options.nodes);
        for fault in &faults {
            println!("{fault}");
        }
        if self.options.dry_run {
            return Ok(0);
        }
        let receivers = Arc::new(ReceiverProcess::start()?);
        println!("phase: full disk, in {}", self.directory.path().display());
        let disk = full_disk::run(self.directory.path(), &receivers, stop).await?;
        let plan = Plan { faults, length };
        tokio::select! {
            violations = self.run_cluster(&plan, receivers, disk, stop) => violations,
            () = stop.cancelled() => Err("stopped".into()),
        }
    }

    async fn run_cluster(
        &mut self,
        plan: &Plan,
        receivers: Arc<ReceiverProcess>,
        disk: Option<DiskFindings>,
        stop: &CancellationToken,
    ) -> Result<usize, BoxError> {
        let path = self.directory.path();
        let bin = &self.options.postgres_bin;
        let cluster = Arc::new(Cluster::start(bin, path, self.options.nodes).await?);
        self.cluster = Some(Arc::clone(&cluster));
        cluster.ingress.wait_until_ready(READY_TIMEOUT).await?;
        if cluster.nodes.last().ok_or("no nodes")?.lock().await.clock().is_none() {
            println!("clock skew: NOT TESTED, libfaketime is missing (apt-get install faketime)");
        }
        let subscriptions = subscribe(&cluster.ingress, &receivers).await?;
        let readers = Readers::start(&cluster.ingress).await?;

        println!("phase: faults");
        let (ledger, start) = (Arc::new(Ledger::default()), Instant::now());
        let rate = self.options.rate;
        let publishing = publishers::run(&cluster.ingress, &ledger, rate, start + plan.length);
        let fault_log = path.join("faults.log");
        let targets = Targets { cluster: Arc::clone(&cluster), receivers: Arc::clone(&receivers) };
        let injecting = injector::run(&plan.faults, start, targets, &fault_log);
        let windows = tokio::select! {
            (windows, ()) = async { tokio::join!(injecting, publishing) } => windows?,
            () = cluster.supervise(stop) => return Err("stopped".into()),
        };
        println!("phase: recovery");
        cluster.ingress.wait_until_ready(READY_TIMEOUT).await?;
        let log = log_reader::read_log(&cluster.ingress).await?;
        let outcome = quiesce::wait_and_check(&log, &receivers, &readers.all, &windows).await?;
        let log_findings = checker::check_log(&log, &ledger.acknowledged());
        let mut violations = cluster.violations().await?;
        violations.extend(pending::outstanding(&cluster.ingress, &subscriptions).await);
        let report = Report {
            faults: &plan.faults,
            ledger: &ledger,
            log: &log,
            log_findings,
            outcome,
            readers: &readers.all,
            disk,
            violations,
            failed_starts: cluster.failed_starts(),
        };
        report.write_duplicates(&path.join("duplicates.log"))?;
        Ok(report.print())
    }

    /// Ends all processes and prints the result.
    pub(super) async fn finish(
        self,
        result: Result<usize, BoxError>,
    ) -> Result<ExitCode, BoxError> {
        if let Some(cluster) = &self.cluster {
            cluster.shut_down().await;
        }
        let passed = matches!(result, Ok(0));
        if !passed || self.options.keep {
            println!("the run's files are in {}", self.directory.keep().display());
        }
        let arguments = format!("--seed {} --minutes {}", self.seed, self.options.minutes);
        match result {
            Ok(0) => println!("passed ({arguments})"),
            Ok(count) => println!("FAILED: {count} violations ({arguments})"),
            Err(error) => println!("ABORTED: {error} ({arguments})"),
        }
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Creates the webhook subscriptions and returns their ids.
async fn subscribe(
    ingress: &Ingress,
    receivers: &ReceiverProcess,
) -> Result<Vec<String>, BoxError> {
    let mut subscriptions = Vec::new();
    for (index, webhook) in WEBHOOKS.iter().enumerate() {
        let body = json!({
            "event_types": [webhook.pattern],
            "callback_url": receivers.callback_url(index),
            "secret": secret(index).reveal(),
            "ordered": webhook.ordered,
            "timeout_s": TIMEOUT_S,
            "description": webhook.name,
        });
        let (status, response) =
            ingress.post(ingress.random_node(), "/v1/subscriptions", &body).await?;
        if status != 201 {
            return Err(format!("subscribing \"{}\": {status} {response}", webhook.name).into());
        }
        subscriptions.push(text(&response, "/id").to_owned());
    }
    Ok(subscriptions)
}
