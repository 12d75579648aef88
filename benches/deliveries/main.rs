//! Deliveries: what publishing and delivering cost, how late deliveries are, and what bad receivers do to good ones;
//! each figure beside the floor that the same run has measured, and the bar that it is held to.
//!
//! The hub with its Postgres, the receivers and the publishers are processes of their own; this one looks on.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::indexing_slicing, reason = "a benchmark that is wrong may stop at once")]

mod backlog;
#[path = "../rig/client.rs"]
mod client;
#[path = "../rig/clock.rs"]
mod clock;
mod costs;
mod figure;
mod floor;
#[path = "../rig/hub.rs"]
mod hub;
mod isolation;
#[path = "../rig/latencies.rs"]
mod latencies;
mod machine;
#[path = "../rig/processes.rs"]
mod processes;
mod publish;
mod request;
mod rounds;
#[path = "../rig/self_exec.rs"]
mod self_exec;
mod sink;
mod stage;
mod table;
mod tally;
mod wal;

use clap::{Parser, ValueEnum};

use self::figure::Figure;
use self::sink::Sink;

/// Benchmarks publishing and delivering on hubs that the run starts itself.
#[derive(Parser, Clone)]
struct Options {
    /// Part to measure; can be repeated [default: all]
    #[arg(long)]
    part: Vec<Part>,
    /// Rounds of the cost measurement, and about twice as many as of the backlog measurement; figures are medians
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// POSTs per flood: publishes, or deliveries with a fan-out of 1 or 10
    #[arg(long, default_value_t = 40_000)]
    posts: usize,
    /// Connections that publish during a flood
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of data per event
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// Seconds per phase of 50 events per second; twice as long beside hanging receivers
    #[arg(long, default_value_t = 9)]
    seconds: usize,
    /// Events parked for dead receivers
    #[arg(long, default_value_t = 2_000_000)]
    parked: usize,
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Target port of a child process
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    load: publish::Load,
    /// Set by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the run.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// CPU time and WAL per event and per delivery.
    Costs,
    /// Delivery delay, with and without hanging receivers.
    Isolation,
    /// Cost of events parked for dead receivers.
    Backlog,
}

/// The role of a child process.
#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Sink,
    Publish,
    Floor,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_there| "a second provider")?;
    if matches!(options.role, Some(Role::Sink)) {
        return sink::run();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match options.role {
        Some(Role::Publish) => runtime.block_on(publish::run(options.port, &options.load)),
        Some(Role::Floor) => runtime.block_on(floor::run(options.port, &options.load)),
        _ => runtime.block_on(measure(&options)),
    }
}

async fn measure(options: &Options) -> Result<(), BoxError> {
    let mut sink = Sink::start()?;
    let all = [Part::Costs, Part::Isolation, Part::Backlog];
    let parts = if options.part.is_empty() { &all[..] } else { &options.part };
    let mut figures = Vec::new();
    for part in parts {
        figures.extend(match part {
            Part::Costs => costs::measure(options, &mut sink).await?,
            Part::Isolation => isolation::measure(options, &mut sink).await?,
            Part::Backlog => backlog::measure(options, &mut sink).await?,
        });
    }
    figures.push(Figure::count("deliveries that came again", sink.repeated()));
    figures.push(Figure::count("deliveries lost", sink.lost()));
    println!(
        "events of {} bytes, floods of {} POSTs, the middle of {} rounds, {} beside a backlog",
        options.bytes,
        options.posts,
        options.rounds,
        backlog::rounds(options)
    );
    table::print(&figures);
    println!("{}", table::write(&figures)?.display());
    match sink.lost() {
        0 => Ok(()),
        lost => Err(format!("{lost} deliveries of acknowledged events never arrived").into()),
    }
}

/// Prints progress: the run takes minutes.
#[expect(clippy::print_stderr, reason = "apart from the table")]
fn eprint_progress(what: &str) {
    eprintln!("{what}");
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
