//! The full-disk phase: a hub with an embedded Postgres on a file system that the run fills up and frees again.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hookhub::domain::position::Position;
use reqwest::StatusCode;
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::BoxError;
use super::cluster::READY_TIMEOUT;
use super::ingress::{Ingress, text};
use super::node::{Node, NodeConfig};
use super::receiver_process::ReceiverProcess;
use super::topology::{FULL_DISK_WEBHOOK, secret};

/// Size of the file system. A new database cluster with its WAL takes about 60 MiB.
const SIZE: &str = "200m";
/// How long the disk stays full in each round.
const FULL_TIME: Duration = Duration::from_secs(6);
/// Time limit for the hub to accept events again, and to deliver them, once the disk has space.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(40);
const NORMAL_EVENT_BYTES: usize = 1_000;

/// One round of filling the disk.
struct Round {
    /// Free bytes that are left on the full disk.
    free_bytes: u64,
    /// Size of each event that is published while the disk is full.
    event_bytes: usize,
}

/// Without free space no table can grow. With less free space than a WAL segment needs the WAL cannot grow, and Postgres
/// panics.
const ROUNDS: [Round; 2] = [
    Round { free_bytes: 0, event_bytes: NORMAL_EVENT_BYTES },
    Round { free_bytes: 12 << 20, event_bytes: 200_000 },
];

/// The log of the embedded Postgres, relative to the disk.
const POSTGRES_LOG: &str = "data/postgres.log";

/// The result of the phase.
#[derive(Debug, Default)]
pub(super) struct DiskFindings {
    /// Responses to publishes, by status, while the disk had space.
    pub(super) with_space: BTreeMap<String, usize>,
    /// Responses to publishes, by status, while the disk was full.
    pub(super) full: BTreeMap<String, usize>,
    /// Number of acknowledged events.
    pub(super) acknowledged: usize,
    /// Acknowledged events that were never delivered.
    pub(super) lost: Vec<Position>,
    pub(super) violations: Vec<String>,
    /// For each round, the time from free space to the next accepted publish.
    pub(super) recovered_in: Vec<Duration>,
}

/// Runs the phase; `None` when this process may not mount a file system.
pub(super) async fn run(
    directory: &Path,
    receivers: &ReceiverProcess,
    stop: &CancellationToken,
) -> Result<Option<DiskFindings>, BoxError> {
    let Some(disk) = Disk::mount(directory.join("disk")).await? else { return Ok(None) };
    let mut node = Node::start(NodeConfig {
        index: FULL_DISK_WEBHOOK,
        data: disk.path.join("data"),
        log: directory.join("node-disk.log"),
        database_url: None,
        clock: None,
    })?;
    let mut phase = Phase {
        ingress: Ingress::new(vec![node.address()])?,
        acknowledged: HashSet::new(),
        findings: DiskFindings::default(),
    };
    // However the rounds end, the node must stop its Postgres, and the disk must be unmounted.
    let result = tokio::select! {
        result = phase.run_rounds(receivers, &disk) => result,
        () = stop.cancelled() => Err("stopped".into()),
    };
    node.request_stop()?;
    phase.findings.violations.extend(node.wait_until_stopped().await);
    drop(std::fs::copy(disk.path.join(POSTGRES_LOG), directory.join("postgres-disk.log")));
    disk.unmount().await?;
    result.map(|()| Some(phase.findings))
}

struct Phase {
    ingress: Ingress,
    acknowledged: HashSet<Position>,
    findings: DiskFindings,
}

/// The disk's state while events are published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DiskState {
    WithSpace,
    Full,
}

impl Phase {
    async fn run_rounds(
        &mut self,
        receivers: &ReceiverProcess,
        disk: &Disk,
    ) -> Result<(), BoxError> {
        self.ingress.wait_until_ready(READY_TIMEOUT).await?;
        let body = json!({
            "event_types": ["disk"],
            "callback_url": receivers.callback_url(FULL_DISK_WEBHOOK),
            "secret": secret(FULL_DISK_WEBHOOK).reveal(),
        });
        let (status, response) = self.ingress.post(0, "/v1/subscriptions", &body).await?;
        if status != 201 {
            return Err(format!("full disk: subscribing: {status} {response}").into());
        }
        for Round { free_bytes, event_bytes } in ROUNDS {
            self.publish(FULL_TIME / 3, NORMAL_EVENT_BYTES, DiskState::WithSpace).await;
            disk.fill(free_bytes)?;
            self.publish(FULL_TIME, event_bytes, DiskState::Full).await;
            disk.free_space()?;
            let recovered_in = self.wait_until_accepted().await?;
            self.findings.recovered_in.push(recovered_in);
        }
        self.findings.acknowledged = self.acknowledged.len();
        self.findings.lost = wait_until_delivered(receivers, &self.acknowledged).await?;
        Ok(())
    }

    /// Publishes events of `bytes` bytes for `duration`.
    async fn publish(&mut self, duration: Duration, bytes: usize, state: DiskState) {
        let started = Instant::now();
        while started.elapsed() < duration {
            let body = json!({ "type": "disk", "data": "x".repeat(bytes) });
            let status = match self.ingress.post(0, "/v1/events", &body).await {
                Ok((StatusCode::ACCEPTED, response)) => {
                    self.acknowledged.extend(text(&response, "/id").parse::<Position>().ok());
                    "202".to_owned()
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => "503".to_owned(),
                Ok((status, response)) => {
                    let violation = format!("full disk: {status} to a publish: {response}");
                    self.findings.violations.push(violation);
                    status.as_str().to_owned()
                }
                Err(_error) => "no response".to_owned(),
            };
            let responses = match state {
                DiskState::WithSpace => &mut self.findings.with_space,
                DiskState::Full => &mut self.findings.full,
            };
            *responses.entry(status).or_default() += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Publishes until the hub accepts an event; returns how long that took.
    async fn wait_until_accepted(&mut self) -> Result<Duration, BoxError> {
        let (started, before) = (Instant::now(), self.acknowledged.len());
        while self.acknowledged.len() == before {
            if started.elapsed() > RECOVERY_TIMEOUT {
                let text = format!("full disk: no publish accepted {RECOVERY_TIMEOUT:?} after");
                return Err(format!("{text} space was freed").into());
            }
            let once = Duration::from_millis(1);
            self.publish(once, NORMAL_EVENT_BYTES, DiskState::WithSpace).await;
        }
        Ok(started.elapsed())
    }
}

/// Waits until all acknowledged events are delivered; returns the missing ones after [`RECOVERY_TIMEOUT`].
async fn wait_until_delivered(
    receivers: &ReceiverProcess,
    acknowledged: &HashSet<Position>,
) -> Result<Vec<Position>, BoxError> {
    let started = Instant::now();
    loop {
        let attempts = receivers.journal().await?.attempts.into_iter();
        let accepted = attempts.filter(|one| one.webhook == FULL_DISK_WEBHOOK && one.accepted);
        let delivered: HashSet<Position> = accepted.map(|one| one.event).collect();
        let missing: Vec<Position> = acknowledged.difference(&delivered).copied().collect();
        if missing.is_empty() || started.elapsed() > RECOVERY_TIMEOUT {
            return Ok(missing);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// A small file system in memory.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None` when this process may not mount.
    async fn mount(path: PathBuf) -> Result<Option<Self>, BoxError> {
        std::fs::create_dir(&path)?;
        let options = format!("size={SIZE},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "hookhub-chaos"]).arg(&path);
        let mounted = mount.output().await?.status.success();
        Ok(mounted.then_some(Self { path }))
    }

    async fn unmount(&self) -> Result<(), BoxError> {
        let output = Command::new("umount").arg(&self.path).output().await?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Fills the disk and leaves `free_bytes`.
    fn fill(&self, free_bytes: u64) -> Result<(), BoxError> {
        let mut file = File::create(self.filler())?;
        let chunk = vec![b'x'; 64 << 10];
        let mut written: u64 = 0;
        while let Ok(count) = file.write(&chunk) {
            written += u64::try_from(count)?;
        }
        Ok(file.set_len(written.saturating_sub(free_bytes))?)
    }

    fn free_space(&self) -> Result<(), BoxError> {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    /// Unmounts after an aborted run; fails silently when the disk is unmounted already.
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-lq").arg(&self.path).output());
    }
}
