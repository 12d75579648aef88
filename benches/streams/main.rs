//! Streams: thousands of clients with a connection each, over Server-Sent Events, WebSocket or long poll, and events to
//! all of them. The table shows the cost of a connection and of an event, the delay of events, and lost events.
//!
//! Three processes, so that each stays below the limit on open files: this one publishes, another is the hub, and a
//! third one runs all clients.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::indexing_slicing, reason = "a faulty benchmark may panic")]

#[path = "../rig/client.rs"]
mod client;
mod clients;
#[path = "../rig/clock.rs"]
mod clock;
mod gauge;
#[path = "../rig/hub.rs"]
mod hub;
#[path = "../rig/latencies.rs"]
mod latencies;
#[path = "../rig/processes.rs"]
mod processes;
mod protocol;
mod publish;
#[path = "../rig/self_exec.rs"]
mod self_exec;
mod table;
mod tally;
mod transport;

use std::fmt::Display;
use std::time::{Duration, Instant};

use clap::Parser;

use self::hub::Hub;
use self::processes::resident_kib;
use self::publish::Load;
use self::self_exec::SelfExec;
use self::table::Figures;
use self::tally::Received;
use self::transport::Transport;

/// Opens many connections to a hub, publishes to all of them, and prints a table of the costs and delays.
#[derive(Parser, Clone)]
struct Options {
    /// Clients, each with one connection
    #[arg(long, default_value_t = 19_000)]
    connections: usize,
    /// Transport to measure; can be repeated [default: all three]
    #[arg(long)]
    transport: Vec<Transport>,
    /// Seconds of publishing [default: 60 for sse, 20 for the others]
    #[arg(long)]
    seconds: Option<usize>,
    /// Events per second, each to all clients
    #[arg(long, default_value_t = 2)]
    rate: usize,
    /// Bytes of data per event
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// Seconds without events before memory is measured
    #[arg(long, default_value_t = 15)]
    idle_seconds: u64,
    /// Connections opened concurrently
    #[arg(long, default_value_t = 64)]
    connecting: usize,
    /// Number of events that the clients expect
    #[arg(long, hide = true, default_value_t = 0)]
    events: usize,
    #[arg(long, hide = true)]
    role: Option<Transport>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    /// Set by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Number of events published before any client connects.
const BASELINE_EVENTS: usize = 100;
/// Interval between two of these events.
const BASELINE_INTERVAL: Duration = Duration::from_millis(50);
/// Time limit for the hub to report all connections after the clients have opened them.
const CONNECTED_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    if let Some(transport) = options.role {
        return clients::run(&options, transport);
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_installed| "a second crypto provider")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure_each(&options))
}

async fn measure_each(options: &Options) -> Result<(), BoxError> {
    let all = Transport::ALL.to_vec();
    let transports = if options.transport.is_empty() { all } else { options.transport.clone() };
    let mut columns = Vec::new();
    for transport in transports {
        columns.push(measure(options, transport).await?);
    }
    println!(
        "{} connections, {} events of {} bytes per second to each",
        options.connections, options.rate, options.bytes
    );
    table::print(&columns);
    match columns.iter().find(|one| !one.received.is_whole()) {
        Some(bad) => {
            let reason = bad.received.error.as_deref().unwrap_or("no connection was closed");
            Err(format!("{}: events were lost or duplicated: {reason}", bad.transport.name())
                .into())
        }
        None => Ok(()),
    }
}

async fn measure(options: &Options, transport: Transport) -> Result<Figures, BoxError> {
    let directory = tempfile::Builder::new().prefix("hookhub-bench-").tempdir_in("/tmp")?;
    let hub = Hub::start(directory.path()).await?;
    let load = Load { events: BASELINE_EVENTS, interval: BASELINE_INTERVAL, bytes: options.bytes };
    let baseline = publish::run(hub.address(), load).await?;

    let seconds = options.seconds.unwrap_or_else(|| transport.usual_seconds());
    let events = (seconds * options.rate).max(1);
    let port = hub.address().port();
    let arguments: [(&str, &dyn Display); 4] = [
        ("--connections", &options.connections),
        ("--connecting", &options.connecting),
        ("--events", &events),
        ("--port", &port),
    ];
    let (memory_before, cpu_before) = (resident_kib(hub.pid()?)?, hub.cpu()?);
    let mut clients = SelfExec::start(transport.name(), &arguments)?;
    let ready = clients.next_line()?;
    if ready != "ready" {
        return Err(ready.into());
    }
    gauge::wait_for(hub.address(), transport, options.connections, CONNECTED_TIMEOUT).await?;
    let connect_cpu = hub.cpu()? - cpu_before;
    eprint_progress(transport, "connected");

    let idle = Duration::from_secs(options.idle_seconds);
    let cpu_before = hub.cpu()?;
    tokio::time::sleep(idle).await;
    let idle_cpu = hub.cpu()? - cpu_before;
    let memory_idle = resident_kib(hub.pid()?)?;

    let cpu_before = hub.cpu()?;
    let interval = Duration::from_secs(1) / u32::try_from(options.rate.max(1))?;
    let started = Instant::now();
    let load = Load { events, interval, bytes: options.bytes };
    let connected = publish::run(hub.address(), load).await?;
    let received: Received = serde_json::from_str(&clients.next_line()?)?;
    let publish_cpu = hub.cpu()? - cpu_before;
    let memory_after = resident_kib(hub.pid()?)?;
    eprint_progress(transport, &format!("received, {:.0?}", started.elapsed()));
    drop(clients);
    gauge::wait_for(hub.address(), transport, 0, CONNECTED_TIMEOUT).await?;
    hub.stop().await?;

    let per_connection = |total: f64| total / to_f64(options.connections);
    Ok(Figures {
        transport,
        connections: options.connections,
        idle_kib: per_connection(memory_idle - memory_before),
        used_kib: per_connection(memory_after - memory_before),
        connect_us: per_connection(connect_cpu.hub_us),
        idle_percent: idle_cpu.hub_us / idle.as_secs_f64().max(1.0) / 10_000.0,
        event_us: publish_cpu.hub_us / to_f64(received.deliveries.max(1)),
        baseline,
        connected,
        received,
    })
}

/// Prints progress: the run takes minutes.
#[expect(clippy::print_stderr, reason = "progress is not part of the table")]
fn eprint_progress(transport: Transport, what: &str) {
    eprintln!("{}: {what}", transport.name());
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
