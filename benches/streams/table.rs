//! The figures of all transports side by side, with their targets.

use std::time::Duration;

use super::latencies::Spread;
use super::tally::Received;
use super::transport::Transport;

/// Memory of an idle connection in nchan (KiB), and CPU time to open it (microseconds).
const GOAL_IDLE_KIB: f64 = 10.0;
const GOAL_CONNECT_US: f64 = 35.0;
/// A figure misses its target above this factor.
const TOLERANCE: f64 = 1.5;

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
    pub(super) connected: Spread,
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
    row("hub memory per connection, idle", &|one| with_goal(one.idle_kib, GOAL_IDLE_KIB, "KiB"));
    row("  after all events", &|one| format!("{:.1} KiB", one.used_kib));
    row("hub CPU per opened connection", &|one| with_goal(one.connect_us, GOAL_CONNECT_US, "us"));
    row("hub CPU while idle, of one core", &|one| format!("{:.1} %", one.idle_percent));
    row("hub CPU per delivered event", &|one| {
        with_goal(one.event_us, one.transport.goal_us(), "us")
    });
    row("  events per read, mean", &|one| format!("{:.2}", one.received.events_per_read));
    time("publish to receipt, p50 / p99", &|one| one.received.delay);
    row("  maximum", &|one| format!("{:.1} ms", ms(one.received.delay.max)));
    time("publish response, no clients, p50 / p99", &|one| one.baseline);
    time("publish response, all clients, p50 / p99", &|one| one.connected);
    count("events delivered", &|one| one.received.deliveries);
    count("lost events", &|one| one.received.missing);
    count("duplicate events", &|one| one.received.repeated);
    count("connections closed early", &|one| one.received.closed);
    row("(client CPU per event)", &|one| format!("{:.1} us", one.received.client_us));
    println!(
        "In parentheses: the figure of nchan. \"!\" marks more than {TOLERANCE} times that figure."
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn with_goal(value: f64, goal: f64, unit: &str) -> String {
    let mark = if value > goal * TOLERANCE { "!" } else { "" };
    format!("{mark}{value:.1} {unit} ({goal:.0})")
}
