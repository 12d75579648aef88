//! The chaos run: hub nodes, Postgres and receivers run as processes while faults are injected by a seeded schedule.
//!
//! The checker knows every acknowledged event and every delivery attempt. It reports an event that was lost, a
//! duplicate in the log or at a reader, an event out of order at an ordered subscription, and a duplicate delivery that
//! no fault explains. With any of these the program exits with 1 and keeps the run's files.

#![expect(clippy::print_stdout, reason = "prints the schedule and the report")]
#![expect(clippy::indexing_slicing, reason = "a run with a bug in its harness may panic")]

mod attempt_record;
mod checker;
#[path = "../../benches/rig/client.rs"]
mod client;
mod clock;
mod cluster;
mod full_disk;
mod ingress;
mod injector;
mod ledger;
mod link;
mod log_reader;
mod node;
mod pending;
mod postgres;
mod process;
mod publishers;
mod quiesce;
mod readers;
mod receiver;
mod receiver_process;
mod report;
mod run;
mod schedule;
#[path = "../../benches/rig/self_exec.rs"]
mod self_exec;
mod topology;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Injects faults into hub nodes, Postgres and receivers, and checks that every acknowledged event is delivered.
#[derive(Parser, Debug, Clone)]
struct Options {
    /// Seed of the fault schedule [default: random; the run prints it]
    #[arg(long)]
    seed: Option<u64>,
    /// Duration of the run in minutes, without the wait for outstanding deliveries at its end
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Number of hub nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Events published per second
    #[arg(long, default_value_t = 80.0)]
    rate: f64,
    /// Directory of the Postgres binaries
    #[arg(long, env = "HOOKHUB_POSTGRES_BIN", default_value = "/usr/bin")]
    postgres_bin: PathBuf,
    /// Print the fault schedule and exit
    #[arg(long)]
    dry_run: bool,
    /// Keep the run's files even if the run passes
    #[arg(long)]
    keep: bool,
    #[arg(long, hide = true)]
    role: Option<String>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Time limit in addition to `--minutes`: for starting up, and for outstanding deliveries at the end.
const EXTRA_TIME: Duration = Duration::from_secs(300);
/// How long an interrupted run may take to stop its processes.
const ABORT_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let options = Options::parse();
    if options.role.is_some() {
        return receiver::run().await.map(|()| ExitCode::SUCCESS);
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_installed| "a TLS provider is already installed")?;
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let time_limit = Duration::from_secs_f64(options.minutes * 60.0) + EXTRA_TIME;
    let (mut run, stop) = (run::Run::new(options)?, CancellationToken::new());
    let mut running = Box::pin(run.execute(&stop));
    let reason = tokio::select! {
        result = &mut running => {
            drop(running);
            return run.finish(result).await;
        }
        () = tokio::time::sleep(time_limit) => format!("not finished after {time_limit:?}"),
        _ = interrupted.recv() => "interrupted".to_owned(),
        _ = terminated.recv() => "terminated".to_owned(),
    };
    stop.cancel();
    drop(tokio::time::timeout(ABORT_TIMEOUT, running).await);
    run.finish(Err(reason.into())).await
}
