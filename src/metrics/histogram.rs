//! A histogram with fixed bounds, in plain atomics (docs/decisions/0010-histogram.md).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Histogram bounds in microseconds, for operations that someone waits for.
pub(super) const DURATION_BOUNDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Counts of observations by upper bound. An observation is two atomic additions.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    to_unit: fn(u64) -> f64,
    /// One count per bound, and one for larger values.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// `bounds`: in microseconds, ascending. [`Self::buckets`] and [`Self::sum`] report seconds.
    pub(super) fn of_micros(bounds: &'static [u64]) -> Self {
        Self::new(bounds, |micros| Duration::from_micros(micros).as_secs_f64())
    }

    /// `bounds`: ascending.
    pub(super) fn of_counts(bounds: &'static [u64]) -> Self {
        // The only conversion from u64 to f64 without a cast.
        Self::new(bounds, |count| Duration::from_secs(count).as_secs_f64())
    }

    /// `bounds`: ascending. `to_unit` converts a value or a bound to the reported unit.
    fn new(bounds: &'static [u64], to_unit: fn(u64) -> f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, to_unit, counts, sum: AtomicU64::new(0) }
    }

    /// Only for a histogram of durations.
    pub(crate) fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// A count, or microseconds in a histogram of durations.
    pub(crate) fn observe(&self, value: u64) {
        let step = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(step) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Upper bounds and counts, not cumulative. The last bound is infinite.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().map(|bound| (self.to_unit)(*bound));
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }

    /// Seconds for a histogram of durations.
    pub(crate) fn sum(&self) -> f64 {
        (self.to_unit)(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_for_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::of_micros(&[1_000, 5_000]);
        for micros in [1, 1_000, 1_001, 9_000] {
            histogram.observe_duration(Duration::from_micros(micros));
        }
        assert_eq!(histogram.buckets(), [(0.001, 2), (0.005, 1), (f64::INFINITY, 1)]);
        assert!((histogram.sum() - 0.011_002).abs() < 1e-9);
    }
}
