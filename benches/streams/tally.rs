//! Events at the clients, and their delays.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::latencies::{Latencies, Spread};

/// Counts events.
pub(super) struct Tally {
    events: usize,
    /// For each client, how many times it has received each event.
    counts: Vec<u8>,
    deliveries: usize,
    repeated: usize,
    /// Number of reads that contained an event.
    reads: usize,
    closed: usize,
    error: Option<String>,
    latencies: Latencies,
    last: Instant,
}

/// The totals.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Received {
    /// Events that a client received for the first time.
    pub(super) deliveries: usize,
    /// Events that a client never received.
    pub(super) missing: usize,
    /// Duplicate events.
    pub(super) repeated: usize,
    /// Mean number of events per read; above one when events arrive faster than they can be sent.
    pub(super) events_per_read: f64,
    /// Connections that ended early.
    pub(super) closed: usize,
    /// The reason of the first of them.
    pub(super) error: Option<String>,
    /// Delay from just before the POST to the receipt.
    pub(super) delay: Spread,
    /// CPU time of the clients per event.
    pub(super) client_us: f64,
}

impl Tally {
    /// For `connections` clients that expect `events` events.
    pub(super) fn new(connections: usize, events: usize) -> Self {
        Self {
            events,
            counts: vec![0; connections * events],
            deliveries: 0,
            repeated: 0,
            reads: 0,
            closed: 0,
            error: None,
            latencies: Latencies::default(),
            last: Instant::now(),
        }
    }

    /// Adds an event that a client received after this delay.
    pub(super) fn record(&mut self, client: usize, number: usize, delay_us: u64) {
        let count = &mut self.counts[client * self.events + number];
        *count = count.saturating_add(1);
        if *count > 1 {
            self.repeated += 1;
        } else {
            self.deliveries += 1;
            self.latencies.record(delay_us);
            self.last = Instant::now();
        }
    }

    /// Adds a read that contained the end of one or more events.
    pub(super) fn record_read(&mut self) {
        self.reads += 1;
    }

    /// Adds a connection that ended.
    pub(super) fn record_closed(&mut self, why: &str) {
        self.closed += 1;
        self.error.get_or_insert_with(|| why.to_owned());
    }

    /// The reason of the first connection that ended.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether every client has received every event.
    pub(super) fn is_complete(&self) -> bool {
        self.deliveries == self.counts.len()
    }

    /// Time since the last new event; `None` before the first.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        (self.deliveries > 0).then(|| self.last.elapsed())
    }

    /// The totals; `cpu_us` is the CPU time of the clients.
    pub(super) fn into_received(self, cpu_us: f64) -> Received {
        Received {
            deliveries: self.deliveries,
            missing: self.counts.len() - self.deliveries,
            repeated: self.repeated,
            events_per_read: super::to_f64(self.deliveries + self.repeated)
                / super::to_f64(self.reads.max(1)),
            closed: self.closed,
            error: self.error,
            delay: self.latencies.into_spread(),
            client_us: cpu_us / super::to_f64(self.deliveries.max(1)),
        }
    }
}

impl Received {
    /// Whether every client has received every event exactly once.
    pub(super) fn is_whole(&self) -> bool {
        self.missing == 0 && self.repeated == 0 && self.closed == 0
    }
}
