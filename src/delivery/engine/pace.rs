//! How many POSTs a receiver gets: a window that its answers open and close, and a limit its owner sets.

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

/// Which part of a second's share a bucket holds that is not used.
const KEPT_PART: f64 = 0.1;

/// How many POSTs may begin in a second so that no more than `most` do within any minute, with a full bucket before it.
pub(crate) fn within_a_minute(most: u32) -> f64 {
    let most = f64::from(most);
    // With m a minute the bucket holds m / 60 * KEPT_PART, and m are let in besides all but one of these.
    let with_bucket = (most + 1.0) / (1.0 + KEPT_PART / 60.0);
    most.min(with_bucket) / 60.0
}

/// The limit on how many POSTs begin in a second: a bucket that fills evenly and holds a tenth of a second's
/// share, or one.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    /// How many could begin at `filled_at`; below none while the bucket is empty.
    held: f64,
    filled_at: Option<UnixMillis>,
}

impl RateLimit {
    /// When the next POST may begin: now, or later.
    pub(crate) fn next_at(&self, per_second: Option<f64>, now: UnixMillis) -> UnixMillis {
        let Some(per_second) = per_second else { return now };
        let missing = 1.0 - self.held_at(per_second, now);
        if missing <= 0.0 {
            return now;
        }
        let wait = Duration::from_secs_f64(missing / per_second);
        now.after(wait.max(Duration::from_millis(1)))
    }

    /// A POST begins.
    pub(crate) fn take(&mut self, per_second: Option<f64>, now: UnixMillis) {
        if let Some(per_second) = per_second {
            self.held = self.held_at(per_second, now) - 1.0;
            self.filled_at = Some(now);
        }
    }

    fn held_at(&self, per_second: f64, now: UnixMillis) -> f64 {
        let most = (per_second * KEPT_PART).max(1.0);
        // A clock that was set back says nothing of the time that has passed.
        let Some(filled_at) = self.filled_at.filter(|at| *at <= now) else { return most };
        (self.held + now.since(filled_at).as_secs_f64() * per_second).min(most)
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
        fn no_more_begin_than_the_limit_says(per_second in 1u16..500, steps in prop::collection::vec(0u64..200, 1..300)) {
            let (mut limit, mut now, mut begun) = (RateLimit::default(), at(1_000), 0);
            let began = now;
            for step in steps {
                now = now.after(Duration::from_millis(step));
                while limit.next_at(Some(per_second.into()), now) <= now {
                    limit.take(Some(per_second.into()), now);
                    begun += 1;
                }
                let allowed = now.since(began).as_secs_f64() * f64::from(per_second);
                prop_assert!(f64::from(begun) <= allowed + (f64::from(per_second) / 10.0).max(1.0) + 0.001);
            }
        }

        #[test]
        fn who_waits_as_long_as_it_is_told_may_begin(per_second in 1u16..2_000, begun in 1usize..50) {
            let (mut limit, mut now) = (RateLimit::default(), at(1_000));
            for _ in 0..begun {
                now = limit.next_at(Some(per_second.into()), now);
                prop_assert!(limit.next_at(Some(per_second.into()), now) <= now.after(Duration::from_millis(1)));
                limit.take(Some(per_second.into()), now);
            }
        }

        #[test]
        fn in_no_minute_do_more_begin_than_were_agreed_to(most in prop_oneof![1u32..100, 500u32..700, 1_000u32..5_000], idle in prop::collection::vec(0u64..90_000, 1..20)) {
            let (mut limit, mut now) = (RateLimit::default(), at(1_000));
            let mut begun: std::collections::VecDeque<UnixMillis> = std::collections::VecDeque::new();
            for idle in idle {
                now = now.after(Duration::from_millis(idle));
                for _ in 0..most.min(1_500) {
                    let per_second = Some(within_a_minute(most));
                    while limit.next_at(per_second, now) > now {
                        now = limit.next_at(per_second, now);
                    }
                    limit.take(per_second, now);
                    begun.push_back(now);
                    while begun.front().is_some_and(|first| now.since(*first) >= Duration::from_secs(60)) {
                        begun.pop_front();
                    }
                    prop_assert!(begun.len() <= usize::try_from(most).unwrap(), "{} of {most}", begun.len());
                }
            }
        }

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
