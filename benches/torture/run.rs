//! One run from its start to its end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::cast::{CALLBACKS, secret};
use super::doors::{Doors, text};
use super::follow::Readers;
use super::receivers::Receivers;
use super::report::Report;
use super::schedule::Stroke;
use super::world::{READY, World};
use super::{Anything, Options, audit, chaos, check, disk, publish, rest, schedule, settle};

/// Of the minutes asked for the full disk takes about so much.
const DISK: Duration = Duration::from_secs(30);
/// A callback's answer takes at most so many seconds.
const TIMEOUT_S: u32 = 4;

/// What must be ended however a run ends.
pub(super) struct Run {
    options: Options,
    seed: u64,
    directory: TempDir,
    world: Option<Arc<World>>,
}

impl Run {
    /// A run that has not begun.
    pub(super) fn new(options: Options) -> Result<Self, Anything> {
        let seed = options.seed.unwrap_or_else(|| rand::random_range(0..100_000));
        // Postgres runs as another user, who must get in; and the name of a socket may not be long.
        let directory = tempfile::Builder::new()
            .prefix("hookhub-torture-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")?;
        Ok(Self { options, seed, directory, world: None })
    }

    /// Does it all; how many faults were found.
    pub(super) async fn torture(&mut self, stop: &CancellationToken) -> Result<usize, Anything> {
        let all = Duration::from_secs_f64(self.options.minutes * 60.0);
        let length = all.saturating_sub(DISK).max(Duration::from_secs(10));
        let strokes = schedule::draw(self.seed, length, self.options.nodes);
        println!("seed {}: {length:.0?} with {} nodes", self.seed, self.options.nodes);
        for stroke in &strokes {
            println!("{stroke}");
        }
        if self.options.dry {
            return Ok(0);
        }
        let receivers = Arc::new(Receivers::start()?);
        println!("full disk, in {}", self.directory.path().display());
        let disk = disk::run(self.directory.path(), &receivers, stop).await?;
        tokio::select! {
            faults = self.torture_nodes(&strokes, length, (&receivers, disk), stop) => faults,
            () = stop.cancelled() => Err("stopped".into()),
        }
    }

    async fn torture_nodes(
        &mut self,
        strokes: &[Stroke],
        length: Duration,
        (receivers, disk): (&Arc<Receivers>, Option<disk::Found>),
        stop: &CancellationToken,
    ) -> Result<usize, Anything> {
        let path = self.directory.path();
        let bin = &self.options.postgres_bin;
        let world = Arc::new(World::start(bin, path, self.options.nodes).await?);
        self.world = Some(Arc::clone(&world));
        world.doors.all_ready(READY).await?;
        if world.nodes.last().ok_or("no nodes")?.lock().await.clock().is_none() {
            println!("clocks: NOT TORTURED, libfaketime is not here (apt-get install faketime)");
        }
        let subscriptions = subscribe(&world.doors, receivers).await?;
        let readers = Readers::start(&world.doors).await?;

        println!("torture");
        let (book, began) = (Arc::new(Book::default()), Instant::now());
        let publishing = publish::run(&world.doors, &book, self.options.rate, began + length);
        let diary = path.join("diary.log");
        let torture = chaos::run(strokes, began, (&world, receivers), &diary);
        let windows = tokio::select! {
            (windows, ()) = async { tokio::join!(torture, publishing) } => windows?,
            () = world.look_after(stop) => return Err("stopped".into()),
        };
        println!("healing");
        world.doors.all_ready(READY).await?;
        let log = audit::whole_log(&world.doors).await?;
        let outcome = settle::settle(&log, receivers, &readers.all, &windows).await?;
        let of_log = check::log(&log, &book.acknowledged());
        let mut incidents = world.incidents().await?;
        incidents.extend(rest::unrest(&world.doors, &subscriptions).await);
        let report = Report {
            strokes,
            book: &book,
            log: &log,
            of_log,
            outcome,
            readers: &readers.all,
            disk,
            incidents,
            given_up: world.given_up(),
        };
        report.write_repeats(&path.join("repeats.log"))?;
        Ok(report.print())
    }

    /// Ends what runs, and says how it went.
    pub(super) async fn end(self, done: Result<usize, Anything>) -> Result<ExitCode, Anything> {
        if let Some(world) = &self.world {
            world.end().await;
        }
        let well = matches!(done, Ok(0));
        if !well || self.options.keep {
            println!("the run's files are in {}", self.directory.keep().display());
        }
        let again = format!("--seed {} --minutes {}", self.seed, self.options.minutes);
        match done {
            Ok(0) => println!("all is well ({again})"),
            Ok(faults) => println!("{faults} faults ({again})"),
            Err(error) => println!("broken off: {error} ({again})"),
        }
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Makes the subscriptions with callbacks; their ids.
async fn subscribe(doors: &Doors, receivers: &Receivers) -> Result<Vec<String>, Anything> {
    let mut subscriptions = Vec::new();
    for (index, callback) in CALLBACKS.iter().enumerate() {
        let wanted = json!({
            "event_types": [callback.pattern],
            "callback_url": receivers.url(index),
            "secret": secret(index).reveal(),
            "ordered": callback.ordered,
            "timeout_s": TIMEOUT_S,
            "description": callback.name,
        });
        let (status, answer) = doors.post(doors.any(), "/v1/subscriptions", &wanted).await?;
        if status != 201 {
            return Err(format!("\"{}\": {status} {answer}", callback.name).into());
        }
        subscriptions.push(text(&answer, "/id").to_owned());
    }
    Ok(subscriptions)
}
