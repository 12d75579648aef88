//! How often something was how large, in fixed steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts by upper bound. Each observation is two additions.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    shown: fn(u64) -> f64,
    /// One for each bound, and one for what is above all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of durations, shown in seconds; `bounds` in microseconds, ascending.
    pub(super) fn of_micros(bounds: &'static [u64]) -> Self {
        Self::new(bounds, |micros| Duration::from_micros(micros).as_secs_f64())
    }

    /// Of counts; `bounds` ascending.
    pub(super) fn of_counts(bounds: &'static [u64]) -> Self {
        // There is no conversion without a cast from a count to a float but this one.
        Self::new(bounds, |count| Duration::from_secs(count).as_secs_f64())
    }

    fn new(bounds: &'static [u64], shown: fn(u64) -> f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, shown, counts, sum: AtomicU64::new(0) }
    }

    /// Notes that something took so long.
    pub(crate) fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Notes that there was so much of something.
    pub(crate) fn observe(&self, value: u64) {
        let step = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(step) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Upper bounds and how many are at or below each and above the one before; the last bound is infinite.
    pub(crate) fn steps(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().map(|bound| (self.shown)(*bound));
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }

    /// All that was observed, added up.
    pub(crate) fn sum(&self) -> f64 {
        (self.shown)(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_is_in_the_step_that_it_does_not_exceed() {
        let histogram = Histogram::of_micros(&[1_000, 5_000]);
        for micros in [1, 1_000, 1_001, 9_000] {
            histogram.took(Duration::from_micros(micros));
        }
        assert_eq!(histogram.steps(), [(0.001, 2), (0.005, 1), (f64::INFINITY, 1)]);
        assert!((histogram.sum() - 0.011_002).abs() < 1e-9);
    }
}
