//! The torture run: hub nodes, Postgres and receivers as processes, to which bad things happen by a schedule that a
//! seed gives; and a checker that knows every acknowledged event and every arrival.
//!
//! Lost, doubled in the log, out of order at an ordered subscription, missing or doubled at a reader: each is a fault,
//! and so is a repeat of what must have been on record. Ends with 1 when there is any, and keeps the run's files then.

#![expect(clippy::print_stdout, reason = "it prints its schedule and its table")]
#![expect(clippy::indexing_slicing, reason = "a torture that is wrong may stop at once")]

mod arrival;
mod audit;
mod book;
mod cast;
mod chaos;
mod check;
#[path = "../rig/client.rs"]
mod client;
mod clock;
mod disk;
mod doors;
mod follow;
mod node;
mod postgres;
mod publish;
mod receiver;
mod receivers;
mod report;
mod rest;
mod run;
mod schedule;
#[path = "../rig/self_exec.rs"]
mod self_exec;
mod settle;
mod started;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tortures hub nodes and their Postgres, and checks what arrives.
#[derive(Parser, Debug, Clone)]
struct Options {
    /// Gives the schedule [default: any, and it is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How long it takes, without what is waited for at its end
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Hub nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Events published in a second
    #[arg(long, default_value_t = 80.0)]
    rate: f64,
    /// Where Postgres' programs are
    #[arg(long, env = "HOOKHUB_POSTGRES_BIN", default_value = "/usr/bin")]
    postgres_bin: PathBuf,
    /// Only print the schedule
    #[arg(long)]
    dry: bool,
    /// Keep the run's files also when all is well
    #[arg(long)]
    keep: bool,
    #[arg(long, hide = true)]
    role: Option<String>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// Beyond the minutes asked for: the start, and what is waited for at the end.
const BEYOND: Duration = Duration::from_secs(300);
/// How long breaking off may take.
const BREAK_OFF: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<ExitCode, Anything> {
    let options = Options::parse();
    if options.role.is_some() {
        return receiver::run().await.map(|()| ExitCode::SUCCESS);
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_there| "a second provider")?;
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let longest = Duration::from_secs_f64(options.minutes * 60.0) + BEYOND;
    let (mut run, stop) = (run::Run::new(options)?, CancellationToken::new());
    let mut torture = Box::pin(run.torture(&stop));
    let why = tokio::select! {
        done = &mut torture => {
            drop(torture);
            return run.end(done).await;
        }
        () = tokio::time::sleep(longest) => format!("not over after {longest:?}"),
        _ = interrupted.recv() => "interrupted".to_owned(),
        _ = terminated.recv() => "terminated".to_owned(),
    };
    stop.cancel();
    drop(tokio::time::timeout(BREAK_OFF, torture).await);
    run.end(Err(why.into())).await
}
