//! Latencies: median, 99th percentile and maximum.

use std::time::Duration;

/// Durations in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds a latency; longer ones than 71 minutes count as 71 minutes.
    pub(crate) fn record(&mut self, us: u64) {
        self.0.push(u32::try_from(us).unwrap_or(u32::MAX));
    }

    pub(crate) fn into_spread(mut self) -> Spread {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
            Duration::from_micros(self.0.get(index).copied().unwrap_or_default().into())
        };
        Spread { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// Distribution of latencies.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Spread {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}
