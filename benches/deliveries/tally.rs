//! What came to the receivers, which of it again, and how late.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::clock::now_us;
use super::request::Request;

/// Counts what comes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// For each path, which events have come.
    seen: HashMap<String, Vec<bool>>,
    /// Since it was last asked for.
    arrived: Arrived,
}

/// What came in a while.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Arrived {
    /// Deliveries that came for the first time, from publish to receipt.
    pub(super) delays_us: Vec<u32>,
    /// Deliveries that came again.
    pub(super) repeated: usize,
    /// When the last one came, by the clock of all.
    pub(super) last_us: u64,
    /// CPU that the receivers took.
    pub(super) cpu_us: f64,
}

impl Tally {
    /// Notes a delivery; what has no number is none.
    pub(super) fn note(&mut self, request: &Request<'_>) {
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

    /// How many deliveries have come for the first time.
    pub(super) fn count(&self) -> usize {
        self.arrived.delays_us.len()
    }

    /// What has come, and begins anew.
    pub(super) fn take(&mut self) -> Arrived {
        std::mem::take(&mut self.arrived)
    }
}
