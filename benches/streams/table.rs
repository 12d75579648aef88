//! The figures of all transports side by side, with their targets.

use std::time::Duration;

use super::latencies::Spread;
use super::tally::Received;
use super::transport::Transport;

/// Memory of an idle connection in nchan (KiB), and CPU time to open it (microseconds).
const GOAL_IDLE_KIB: f64 = 10.0;
const GOAL_CONNECT_US: f64 = 35.0;
/// A figure meets its target up to this factor.
const BAR: f64 = 1.5;

/// The figures of one transport.
pub(super) struct Figures {
    pub(super) transport: Transport,
    /// Number of open connections.
    pub(super) connections: usize,
    /// Memory of the hub per connection before any event.
    pub(super) idle_kib: f64,
    /// Memory of the hub per connection after all events.
    pub(super) used_kib: f64,
    /// CPU time of the hub per opened connection.
    pub(super) connect_us: f64,
    /// CPU usage of the hub while nothing is published, in percent of one core.
    pub(super) idle_percent: f64,
    /// CPU time of the hub per event and client, while events are published.
    pub(super) event_us: f64,
    /// Latencies of publishes without clients.
    pub(super) baseline: Spread,
    /// Latencies of publishes with all clients connected.
    pub(super) together: Spread,
    pub(super) received: Received,
}

/// Prints a column per transport.
pub(super) fn print(columns: &[Figures]) {
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = columns.iter().map(|one| format!("{:>19}", cell(one))).collect();
        println!("{name:<42} {}", cells.join(" "));
    };
    let count = |name: &str, of: &dyn Fn(&Figures) -> usize| row(name, &|one| of(one).to_string());
    let time = |name: &str, of: &dyn Fn(&Figures) -> Spread| {
        row(name, &|one| format!("{:.1} / {:.1} ms", ms(of(one).p50), ms(of(one).p99)));
    };
    row("", &|one| one.transport.name().to_owned());
    count("connections", &|one| one.connections);
    row("memory of the hub for each, idle", &|one| beside(one.idle_kib, GOAL_IDLE_KIB, "KiB"));
    row("  the same after the events", &|one| format!("{:.1} KiB", one.used_kib));
    row("CPU of the hub for each connect", &|one| beside(one.connect_us, GOAL_CONNECT_US, "us"));
    row("CPU of the hub while idle, of a core", &|one| format!("{:.1} %", one.idle_percent));
    row("CPU of the hub for each event delivered", &|one| {
        beside(one.event_us, one.transport.goal_us(), "us")
    });
    row("  events that came at once, on average", &|one| format!("{:.2}", one.received.at_once));
    time("publish to receipt, p50 / p99", &|one| one.received.delay);
    row("  the slowest", &|one| format!("{:.1} ms", ms(one.received.delay.max)));
    time("publish, nobody connected, p50 / p99", &|one| one.baseline);
    time("publish, all connected, p50 / p99", &|one| one.together);
    count("events delivered", &|one| one.received.deliveries);
    count("missing", &|one| one.received.missing);
    count("repeated", &|one| one.received.repeated);
    count("connections that ended", &|one| one.received.closed);
    row("(CPU of the clients for each event)", &|one| format!("{:.1} us", one.received.client_us));
    println!("In brackets what nchan takes; ! is more than {BAR} times that.");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn beside(value: f64, goal: f64, unit: &str) -> String {
    let mark = if value > goal * BAR { "!" } else { "" };
    format!("{mark}{value:.1} {unit} ({goal:.0})")
}
