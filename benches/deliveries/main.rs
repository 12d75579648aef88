//! Deliveries: the cost of publishing and delivering, the delay of deliveries, and the effect of bad receivers on good
//! ones. The table shows each figure with a floor measured in the same run, and with its target.
//!
//! The hub with its Postgres, the receivers and the publishers run in processes of their own; this one measures.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::indexing_slicing, reason = "a faulty benchmark may panic")]

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
mod table;
mod tally;
mod test_hub;
mod wal;

use clap::{Parser, ValueEnum};

use self::figure::Figure;
use self::sink::Sink;

/// Measures publishing and delivering on hubs that the run starts itself; prints a table and writes
/// `target/bench/deliveries.json`.
#[derive(Parser, Clone)]
struct Options {
    /// Part to measure; can be repeated [default: all]
    #[arg(long)]
    part: Vec<Part>,
    /// Rounds of the costs part; the backlog part takes half as many, rounded up. Figures are medians of the rounds
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
    /// Seconds per phase of the isolation part, at 50 events per second; twice as long with hanging receivers
    #[arg(long, default_value_t = 9)]
    seconds: usize,
    /// Events that the backlog part parks for dead receivers
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
        .map_err(|_installed| "a second crypto provider")?;
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
    figures.push(Figure::count("duplicate deliveries", sink.repeated()));
    figures.push(Figure::count("lost deliveries", sink.lost()));
    println!(
        "events of {} bytes, floods of {} POSTs, median of {} rounds ({} with a backlog)",
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
#[expect(clippy::print_stderr, reason = "progress is not part of the table")]
fn eprint_progress(what: &str) {
    eprintln!("{what}");
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
