//! How long things took: the middle, the slow ones, the slowest.

use std::time::Duration;

/// Durations in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Notes one; above an hour they are all the same.
    pub(crate) fn note(&mut self, us: u64) {
        self.0.push(u32::try_from(us).unwrap_or(u32::MAX));
    }

    /// The middle, that which 99 of 100 stay below, and the longest.
    pub(crate) fn into_spread(mut self) -> Spread {
        self.0.sort_unstable();
        let at = |percent: usize| {
            let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
            Duration::from_micros(self.0.get(index).copied().unwrap_or_default().into())
        };
        Spread { p50: at(50), p99: at(99), most: at(100) }
    }
}

/// How durations are spread.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Spread {
    /// Half took less.
    pub(crate) p50: Duration,
    /// 99 of 100 took less.
    pub(crate) p99: Duration,
    /// None took more.
    pub(crate) most: Duration,
}
