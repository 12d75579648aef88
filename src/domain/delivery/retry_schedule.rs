//! The schedule of retries. Only this file uses the unmaintained crate `backoff` (see deny.toml).

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use crate::domain::time::UnixMillis;

/// The random part of a delay, as a fraction of its step, either way.
const JITTER: f64 = 0.2;

/// The delays between attempts, and the deadline of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The delay after the first failure, the second, and so on; the last one repeats. Never empty.
    pub steps: Vec<Duration>,
    /// The deadline of a delivery, counted from its first attempt. A receiver whose circuit breaker is open for longer
    /// is disabled.
    pub give_up_after: Duration,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        let steps = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400];
        Self {
            steps: steps.map(Duration::from_secs).to_vec(),
            give_up_after: Duration::from_secs(3 * 24 * 3_600),
        }
    }
}

impl RetrySchedule {
    /// The time of the next attempt after attempt `number` (from 1) failed at `now`. `None`: the schedule's next step
    /// ends after the deadline, so there are no more attempts.
    ///
    /// The delay is the schedule's step with jitter, or `at_least` if that is longer, but never beyond the deadline.
    /// The deadline counts from `first_attempt`, so a delivery that was held back or is replayed gets its full number
    /// of attempts.
    pub fn next(
        &self,
        number: u16,
        first_attempt: UnixMillis,
        now: UnixMillis,
        at_least: Option<Duration>,
    ) -> Option<UnixMillis> {
        let index = usize::from(number).saturating_sub(1);
        let step = self.steps.get(index).or_else(|| self.steps.last()).copied()?;
        let deadline = first_attempt.after(self.give_up_after);
        let due = now.after(jittered(step));
        // A `Retry-After` beyond the deadline gets one last attempt at the deadline.
        (due <= deadline).then(|| due.max(now.after(at_least.unwrap_or_default())).min(deadline))
    }

    /// Whether `give_up_after` has passed since the failures of a receiver began at `since`.
    pub fn is_over(&self, since: UnixMillis, now: UnixMillis) -> bool {
        since.after(self.give_up_after) < now
    }
}

/// Returns a random delay between 80 % and 120 % of `step`.
pub fn jittered(step: Duration) -> Duration {
    let mut one = ExponentialBackoff {
        current_interval: step,
        initial_interval: step,
        randomization_factor: JITTER,
        multiplier: 1.0,
        max_interval: step,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    one.next_backoff().unwrap_or(step)
}

/// The delays between attempts to reach an unavailable database, from 50 ms to about one second, without end.
pub fn reconnect_delays() -> impl Iterator<Item = Duration> {
    let mut waits = ExponentialBackoff {
        current_interval: Duration::from_millis(50),
        initial_interval: Duration::from_millis(50),
        randomization_factor: JITTER,
        multiplier: 2.0,
        max_interval: Duration::from_secs(1),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    std::iter::from_fn(move || waits.next_backoff())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: UnixMillis = UnixMillis::EPOCH;

    proptest! {
        #[test]
        fn a_delay_is_its_step_plus_or_minus_a_fifth(number in 1u16..40) {
            let schedule = RetrySchedule::default();
            let step = schedule.steps.get(usize::from(number) - 1).or(schedule.steps.last()).unwrap();
            let due = schedule.next(number, START, START, None).unwrap();
            let wait = due.since(START);
            prop_assert!(wait >= step.mul_f64(0.799) && wait <= step.mul_f64(1.201), "{wait:?} for {step:?}");
        }

        #[test]
        fn a_delay_is_at_least_what_the_receiver_requests(seconds in 0u64..10_000) {
            let requested = Duration::from_secs(seconds);
            let due = RetrySchedule::default().next(1, START, START, Some(requested)).unwrap();
            prop_assert!(due.since(START) >= requested.max(Duration::from_secs(4)));
        }
    }

    #[test]
    fn retry_after_beyond_the_deadline_gets_one_last_attempt() {
        let schedule = RetrySchedule {
            steps: vec![Duration::from_secs(60)],
            give_up_after: Duration::from_secs(100),
        };
        assert!(schedule.next(1, START, START, None).is_some());
        assert!(schedule.next(2, START, START.after(Duration::from_secs(60)), None).is_none());
        let last = schedule.next(1, START, START, Some(Duration::from_secs(101)));
        assert_eq!(
            last,
            Some(START.after(schedule.give_up_after)),
            "a last attempt at the deadline"
        );
    }

    #[test]
    fn reconnect_delays_grow_to_one_second() {
        let waits: Vec<_> = reconnect_delays().take(12).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(1_200)));
        assert!(waits.first() < waits.last());
    }
}
