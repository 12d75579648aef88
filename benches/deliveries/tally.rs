//! Deliveries at the receivers: new ones, duplicates, and delays.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::clock::now_us;
use super::request::Request;

/// Counts deliveries.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// For each path, the events that have arrived.
    seen: HashMap<String, Vec<bool>>,
    /// Arrivals since the last [`Tally::take`].
    arrived: Arrived,
}

/// The arrivals of one phase.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Arrived {
    /// Delay from publish to receipt of each new delivery.
    pub(super) delays_us: Vec<u32>,
    /// Duplicate deliveries.
    pub(super) repeated: usize,
    /// Time of the last arrival, by the shared clock.
    pub(super) last_us: u64,
    /// CPU time of the receivers.
    pub(super) cpu_us: f64,
}

impl Tally {
    /// Adds a request; ignores a body without a number.
    pub(super) fn record(&mut self, request: &Request<'_>) {
        let (Some(number), Some(at)) = (request.number("\"n\":"), request.number("\"at\":")) else {
            return;
        };
        if !self.seen.contains_key(request.path) {
            self.seen.insert(request.path.to_owned(), Vec::new());
        }
        let (Some(seen), Ok(number)) = (self.seen.get_mut(request.path), usize::try_from(number))
        else {
            return;
        };
        if seen.len() <= number {
            seen.resize(number + 1, false);
        }
        if std::mem::replace(&mut seen[number], true) {
            self.arrived.repeated += 1;
        } else {
            self.arrived.last_us = now_us();
            let delay = self.arrived.last_us.saturating_sub(at);
            self.arrived.delays_us.push(u32::try_from(delay).unwrap_or(u32::MAX));
        }
    }

    /// Number of new deliveries.
    pub(super) fn count(&self) -> usize {
        self.arrived.delays_us.len()
    }

    /// Returns the arrivals and starts a new phase.
    pub(super) fn take(&mut self) -> Arrived {
        std::mem::take(&mut self.arrived)
    }
}
