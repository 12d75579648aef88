//! How many POSTs a receiver gets at once: a window that its answers open and close.

use std::time::Duration;

use crate::domain::delivery::outcome::{ErrorClass, Outcome, Verdict};
use crate::domain::time::UnixMillis;

/// An answer that took so many times as long as is usual for the receiver, and so much longer, says that it is loaded.
const SLOW: (f64, Duration) = (3.0, Duration::from_millis(100));
/// Slowness alone does not close the window further than this.
const LEAST_WHEN_SLOW: usize = 4;
/// How much of the newest answer goes into what is usual: less when it is slower than that, so that what is usual is
/// found from below.
const WEIGHTS: (f64, f64) = (0.2, 0.02);

/// What a receiver's load, not its refusal, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It takes what it gets.
    Well,
    /// It asks for less, or does not keep up.
    Loaded,
    /// Nothing can be said.
    Neither,
}

/// How many POSTs may run at once: one more for each success until the receiver is loaded, then half of that and from
/// there on one more for each window full of successes.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    /// Growth slows down from here on.
    threshold: usize,
    /// Successes since it grew last.
    successes: usize,
    /// Milliseconds that an answer usually takes.
    usual_ms: Option<f64>,
    closed_at: Option<UnixMillis>,
}

impl Window {
    /// A window that the subscription's own bound alone limits.
    pub(crate) fn open() -> Self {
        Self {
            size: usize::MAX,
            threshold: usize::MAX,
            successes: 0,
            usual_ms: None,
            closed_at: None,
        }
    }

    /// As for a receiver that has just come back: one, and one more for each success.
    pub(crate) fn begin_again(&mut self) {
        (self.size, self.threshold, self.successes) = (1, usize::MAX, 0);
    }

    /// How many POSTs may run at once, from one to `most`.
    pub(crate) fn size(&self, most: usize) -> usize {
        self.size.clamp(1, most.max(1))
    }

    /// Notes an answer to a POST that began at `began` and took `latency`; `most`: the subscription's own bound.
    pub(crate) fn note(
        &mut self,
        outcome: &Outcome,
        (began, latency): (UnixMillis, Duration),
        now: UnixMillis,
        most: usize,
    ) {
        match self.sign(outcome, latency) {
            Sign::Well => self.widen(),
            // What was sent before the window closed says nothing about whether it is closed enough.
            Sign::Loaded if self.closed_at.is_none_or(|closed| began > closed || closed > now) => {
                let size = self.size(most);
                let refused = outcome.verdict() != Verdict::Delivered;
                let least = if refused { 1 } else { LEAST_WHEN_SLOW.min(size) };
                self.size = (size / 2).max(least);
                (self.threshold, self.successes) = (self.size, 0);
                self.closed_at = Some(now);
            }
            Sign::Loaded | Sign::Neither => {}
        }
    }

    fn widen(&mut self) {
        self.successes += 1;
        if self.size < self.threshold || self.successes >= self.size {
            self.size = self.size.saturating_add(1);
            self.successes = 0;
        }
    }

    fn sign(&mut self, outcome: &Outcome, latency: Duration) -> Sign {
        match outcome {
            Outcome::Answered { status: 429 | 503, .. } | Outcome::Failed(ErrorClass::Timeout) => {
                Sign::Loaded
            }
            Outcome::Answered { status: 200..=299, .. } if self.is_slow(latency) => Sign::Loaded,
            Outcome::Answered { status: 200..=299, .. } => Sign::Well,
            Outcome::Answered { .. } | Outcome::Failed(_) => Sign::Neither,
        }
    }

    /// Whether an answer took much longer than is usual; it counts towards what is.
    fn is_slow(&mut self, latency: Duration) -> bool {
        let taken = latency.as_secs_f64() * 1_000.0;
        let Some(usual) = self.usual_ms else {
            self.usual_ms = Some(taken);
            return false;
        };
        let weight = if taken < usual { WEIGHTS.0 } else { WEIGHTS.1 };
        self.usual_ms = Some(usual + weight * (taken - usual));
        taken > usual * SLOW.0 && taken > usual + SLOW.1.as_secs_f64() * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 16;
    const QUICK: Duration = Duration::from_millis(5);
    const OK: Outcome = Outcome::Answered { status: 204, retry_after: None };
    const BUSY: Outcome = Outcome::Answered { status: 429, retry_after: None };

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_i64(ms)
    }

    fn note(window: &mut Window, outcome: &Outcome, latency: Duration, now: i64) -> usize {
        window.note(outcome, (at(now - 1), latency), at(now), MOST);
        window.size(MOST)
    }

    #[test]
    fn a_receiver_that_asks_for_less_gets_half_and_then_slowly_more() {
        let mut window = Window::open();
        assert_eq!(window.size(MOST), MOST);
        assert_eq!(note(&mut window, &BUSY, QUICK, 10), 8);
        window.note(&BUSY, (at(5), QUICK), at(11), MOST);
        assert_eq!(window.size(MOST), 8, "sent before the window closed");
        assert_eq!(note(&mut window, &BUSY, QUICK, 20), 4);
        for now in 30..34 {
            note(&mut window, &OK, QUICK, now);
        }
        assert_eq!(window.size(MOST), 5, "a window full of successes opens it by one");
    }

    #[test]
    fn timeouts_close_it_down_to_one_and_a_refusal_does_not() {
        let mut window = Window::open();
        for now in 1..10 {
            note(&mut window, &Outcome::Failed(ErrorClass::Timeout), QUICK, now * 10);
        }
        assert_eq!(window.size(MOST), 1);
        let mut window = Window::open();
        for now in 1..10 {
            note(
                &mut window,
                &Outcome::Answered { status: 500, retry_after: None },
                QUICK,
                now * 10,
            );
            note(&mut window, &Outcome::Failed(ErrorClass::Connect), QUICK, now * 10 + 1);
        }
        assert_eq!(window.size(MOST), MOST);
    }

    #[test]
    fn answers_that_take_longer_than_usual_close_it_but_not_wholly() {
        let mut window = Window::open();
        for now in 1..20 {
            note(&mut window, &OK, QUICK, now);
        }
        for now in 3..20 {
            note(&mut window, &OK, Duration::from_secs(1), now * 10);
        }
        assert_eq!(window.size(MOST), 4);
    }

    #[test]
    fn after_a_recovery_each_success_opens_it_by_one() {
        let mut window = Window::open();
        window.begin_again();
        assert_eq!(window.size(MOST), 1);
        for (now, size) in (2..).zip(2..=MOST) {
            assert_eq!(note(&mut window, &OK, QUICK, now), size);
        }
    }

    proptest! {
        #[test]
        fn a_window_stays_within_its_bounds(answers in prop::collection::vec((0usize..4, 1u64..2_000), 0..200), most in 1usize..64) {
            let mut window = Window::open();
            for ((which, latency), now) in answers.into_iter().zip(1i64..) {
                let outcome = [&OK, &BUSY, &Outcome::Failed(ErrorClass::Timeout), &Outcome::Failed(ErrorClass::Dns)][which];
                window.note(outcome, (at(now * 10 - 1), Duration::from_millis(latency)), at(now * 10), most);
                prop_assert!((1..=most).contains(&window.size(most)));
            }
        }
    }
}
