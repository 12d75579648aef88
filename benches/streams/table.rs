//! The figures, side by side, with what they are to be.

use std::time::Duration;

use super::latencies::Spread;
use super::tally::Received;
use super::transport::Transport;

/// KiB that an idle connection has at nchan, and microseconds of CPU to open it.
const GOAL_IDLE_KIB: f64 = 10.0;
const GOAL_CONNECT_US: f64 = 35.0;
/// Up to so many times the goal will do.
const BAR: f64 = 1.5;

/// What was measured of one transport.
pub(super) struct Figures {
    /// Which.
    pub(super) transport: Transport,
    /// Connections that were open.
    pub(super) connections: usize,
    /// Memory of the hub for each before any event came.
    pub(super) idle_kib: f64,
    /// Memory of the hub for each after all events.
    pub(super) used_kib: f64,
    /// CPU of the hub to open each.
    pub(super) connect_us: f64,
    /// CPU of the hub while nothing is published, of one core.
    pub(super) idle_percent: f64,
    /// CPU of the hub for each event that came to a client: all that it took while events were published.
    pub(super) event_us: f64,
    /// How long publishes took with nobody connected.
    pub(super) alone: Spread,
    /// How long publishes took with all connected.
    pub(super) together: Spread,
    /// What came.
    pub(super) received: Received,
}

/// Prints a column for each.
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
    row("  the slowest", &|one| format!("{:.1} ms", ms(one.received.delay.most)));
    time("publish, nobody connected, p50 / p99", &|one| one.alone);
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
