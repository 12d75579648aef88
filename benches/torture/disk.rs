//! The full disk: a hub with a Postgres of its own, on a file system that is filled up for a while.

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

use super::Anything;
use super::cast::{DISK, secret};
use super::doors::{Doors, text};
use super::node::{Node, Setup};
use super::receivers::Receivers;

/// The file system's size in MiB: a new cluster with its log takes some 60.
const SIZE: &str = "200m";
/// How long it stays full each time, and how long it may take until the hub goes on when there is space again.
const FULL: Duration = Duration::from_secs(6);
const RECOVERY: Duration = Duration::from_secs(40);
/// How much is left free when it is filled, and how large every event is then. Nothing is left, so that tables cannot
/// grow; and less than one more file of Postgres' log of changes, so that this is what cannot, and Postgres dies.
const ROUNDS: [(u64, usize); 2] = [(0, 1_000), (12 << 20, 200_000)];

/// What the Postgres of the hub says, below the disk.
const POSTGRES_LOG: &str = "data/postgres.log";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Answers to publishes: before and after, and while it was full.
    pub(super) with_space: BTreeMap<String, usize>,
    pub(super) full: BTreeMap<String, usize>,
    /// How many events were acknowledged, and which of them never arrived.
    pub(super) acknowledged: usize,
    pub(super) lost: Vec<Position>,
    /// What must not be.
    pub(super) oddities: Vec<String>,
    /// How long after there was space again the first publish was accepted.
    pub(super) recovered_in: Vec<Duration>,
}

/// Runs it; `None` where no file system can be mounted.
pub(super) async fn run(
    directory: &Path,
    receivers: &Receivers,
    stop: &CancellationToken,
) -> Result<Option<Found>, Anything> {
    let Some(disk) = Disk::mount(directory.join("disk")).await? else { return Ok(None) };
    let mut node = Node::start(Setup {
        index: DISK,
        data: disk.path.join("data"),
        log: directory.join("node-disk.log"),
        database_url: None,
        clock: None,
    })?;
    let mut found = Found::default();
    let doors = Doors::new(vec![node.address()])?;
    // However it ends: the hub has a Postgres of its own to end, and the disk must be free.
    let done = tokio::select! {
        done = torture(&doors, receivers, &disk, &mut found) => done,
        () = stop.cancelled() => Err("stopped".into()),
    };
    node.ask_to_end()?;
    found.oddities.extend(node.until_ended().await);
    drop(std::fs::copy(disk.path.join(POSTGRES_LOG), directory.join("postgres-disk.log")));
    disk.unmount().await?;
    done.map(|()| Some(found))
}

async fn torture(
    doors: &Doors,
    receivers: &Receivers,
    disk: &Disk,
    found: &mut Found,
) -> Result<(), Anything> {
    doors.all_ready(super::world::READY).await?;
    let wanted = json!({
        "event_types": ["disk"], "callback_url": receivers.url(DISK), "secret": secret(DISK).reveal(),
    });
    let (status, answer) = doors.post(0, "/v1/subscriptions", &wanted).await?;
    if status != 201 {
        return Err(format!("a subscription: {status} {answer}").into());
    }
    let mut acknowledged = HashSet::new();
    for (left, bytes) in ROUNDS {
        let answers = (&mut found.with_space, &mut found.oddities);
        publish(doors, (FULL / 3, 1_000), &mut acknowledged, answers).await;
        disk.fill(left)?;
        let answers = (&mut found.full, &mut found.oddities);
        publish(doors, (FULL, bytes), &mut acknowledged, answers).await;
        disk.make_space()?;
        let recovered_in = recovery(doors, found, &mut acknowledged).await?;
        found.recovered_in.push(recovered_in);
    }
    found.acknowledged = acknowledged.len();
    found.lost = until_arrived(receivers, &acknowledged).await?;
    Ok(())
}

/// Publishes for so long events of so many bytes.
async fn publish(
    doors: &Doors,
    (length, bytes): (Duration, usize),
    acknowledged: &mut HashSet<Position>,
    (answers, oddities): (&mut BTreeMap<String, usize>, &mut Vec<String>),
) {
    let began = Instant::now();
    while began.elapsed() < length {
        let pad = "x".repeat(bytes);
        let word = match doors.post(0, "/v1/events", &json!({"type": "disk", "data": pad})).await {
            Ok((StatusCode::ACCEPTED, answer)) => {
                acknowledged.extend(text(&answer, "/id").parse::<Position>().ok());
                "202".to_owned()
            }
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => "503".to_owned(),
            Ok((status, answer)) => {
                oddities.push(format!("full disk: a publish was answered {status}: {answer}"));
                status.as_str().to_owned()
            }
            Err(_none) => "none".to_owned(),
        };
        *answers.entry(word).or_default() += 1;
        sleep(Duration::from_millis(20)).await;
    }
}

/// How long it takes until a publish is accepted.
async fn recovery(
    doors: &Doors,
    found: &mut Found,
    acknowledged: &mut HashSet<Position>,
) -> Result<Duration, Anything> {
    let (began, before) = (Instant::now(), acknowledged.len());
    while acknowledged.len() == before {
        if began.elapsed() > RECOVERY {
            return Err(format!("nothing is accepted {RECOVERY:?} after there was space").into());
        }
        let once = (Duration::from_millis(1), 1_000);
        publish(doors, once, acknowledged, (&mut found.with_space, &mut found.oddities)).await;
    }
    Ok(began.elapsed())
}

/// What has not arrived in time.
async fn until_arrived(
    receivers: &Receivers,
    acknowledged: &HashSet<Position>,
) -> Result<Vec<Position>, Anything> {
    let began = Instant::now();
    loop {
        let taken = receivers.noted().await?.arrivals.into_iter();
        let taken = taken.filter(|one| one.callback == DISK && one.accepted);
        let taken: HashSet<Position> = taken.map(|one| one.event).collect();
        let missing: Vec<Position> = acknowledged.difference(&taken).copied().collect();
        if missing.is_empty() || began.elapsed() > RECOVERY {
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
    /// `None` where this is not allowed.
    async fn mount(path: PathBuf) -> Result<Option<Self>, Anything> {
        std::fs::create_dir(&path)?;
        let options = format!("size={SIZE},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "hookhub-torture"]).arg(&path);
        let mounted = mount.output().await?.status.success();
        Ok(mounted.then_some(Self { path }))
    }

    async fn unmount(&self) -> Result<(), Anything> {
        let done = Command::new("umount").arg(&self.path).output().await?;
        if done.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&done.stderr).into())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Takes all space but so many bytes.
    fn fill(&self, left: u64) -> Result<(), Anything> {
        let mut file = File::create(self.filler())?;
        let piece = vec![b'x'; 64 << 10];
        let mut written: u64 = 0;
        while let Ok(count) = file.write(&piece) {
            written += u64::try_from(count)?;
        }
        Ok(file.set_len(written.saturating_sub(left))?)
    }

    fn make_space(&self) -> Result<(), Anything> {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    /// For when the run is broken off; it may be unmounted already.
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-lq").arg(&self.path).output());
    }
}
