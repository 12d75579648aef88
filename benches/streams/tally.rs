//! What came to which client, and how late.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::latencies::{Latencies, Spread};

/// Counts what comes.
pub(super) struct Tally {
    events: usize,
    /// For each client in turn, how often each event came to it.
    counts: Vec<u8>,
    deliveries: usize,
    repeated: usize,
    /// Pieces read that held an event.
    pieces: usize,
    closed: usize,
    error: Option<String>,
    latencies: Latencies,
    last: Instant,
}

/// What came, in all.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Received {
    /// Events that came to a client for the first time.
    pub(super) deliveries: usize,
    /// Those that should have come and did not.
    pub(super) missing: usize,
    /// Those that came again.
    pub(super) repeated: usize,
    /// How many events came at once, on average: above one where they come faster than they can be sent.
    pub(super) at_once: f64,
    /// Connections that ended before the end.
    pub(super) closed: usize,
    /// Why the first of them did.
    pub(super) error: Option<String>,
    /// From just before the POST to the receipt.
    pub(super) delay: Spread,
    /// CPU that the clients took for each event.
    pub(super) client_us: f64,
}

impl Tally {
    /// For so many clients that wait for so many events.
    pub(super) fn new(connections: usize, events: usize) -> Self {
        Self {
            events,
            counts: vec![0; connections * events],
            deliveries: 0,
            repeated: 0,
            pieces: 0,
            closed: 0,
            error: None,
            latencies: Latencies::default(),
            last: Instant::now(),
        }
    }

    /// An event has come to a client after so long.
    pub(super) fn note(&mut self, client: usize, number: usize, delay_us: u64) {
        let count = &mut self.counts[client * self.events + number];
        *count = count.saturating_add(1);
        if *count > 1 {
            self.repeated += 1;
        } else {
            self.deliveries += 1;
            self.latencies.note(delay_us);
            self.last = Instant::now();
        }
    }

    /// A piece was read in which there was the end of an event, or of several.
    pub(super) fn note_piece(&mut self) {
        self.pieces += 1;
    }

    /// A connection has ended.
    pub(super) fn note_closed(&mut self, why: &str) {
        self.closed += 1;
        self.error.get_or_insert_with(|| why.to_owned());
    }

    /// Why the first connection ended that did.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether all has come.
    pub(super) fn is_complete(&self) -> bool {
        self.deliveries == self.counts.len()
    }

    /// How long nothing has come for the first time; `None`: nothing has at all.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        (self.deliveries > 0).then(|| self.last.elapsed())
    }

    /// The sum; `cpu_us` is what the clients took.
    pub(super) fn into_received(self, cpu_us: f64) -> Received {
        Received {
            deliveries: self.deliveries,
            missing: self.counts.len() - self.deliveries,
            repeated: self.repeated,
            at_once: super::to_f64(self.deliveries + self.repeated)
                / super::to_f64(self.pieces.max(1)),
            closed: self.closed,
            error: self.error,
            delay: self.latencies.into_spread(),
            client_us: cpu_us / super::to_f64(self.deliveries.max(1)),
        }
    }
}

impl Received {
    /// Each event came once to each client.
    pub(super) fn is_whole(&self) -> bool {
        self.missing == 0 && self.repeated == 0 && self.closed == 0
    }
}
