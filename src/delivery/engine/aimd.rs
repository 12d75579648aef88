//! The AIMD window: how many POSTs a receiver gets at a time. It grows by addition and shrinks by halving.

use std::time::Duration;

use crate::domain::delivery::outcome::{ErrorClass, Outcome, Verdict};
use crate::domain::time::UnixMillis;

/// A response is slow if its latency exceeds the usual one by this factor and by [`SLOW_MARGIN`].
const SLOW_FACTOR: f64 = 3.0;
const SLOW_MARGIN: Duration = Duration::from_millis(100);
/// Slow responses shrink the window no further than this.
const MIN_SIZE_WHEN_SLOW: usize = 4;
/// The weight of a response faster than usual in the usual latency.
const FASTER_WEIGHT: f64 = 0.2;
/// The weight of a response slower than usual. It is low, so that load hardly changes the usual latency.
const SLOWER_WEIGHT: f64 = 0.02;

/// How a receiver responded to one attempt.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) outcome: &'a Outcome,
    /// The start of the attempt.
    pub(super) started_at: UnixMillis,
    pub(super) latency: Duration,
}

/// The receiver's load as a response shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadSignal {
    /// A success that is not slow.
    Healthy,
    /// The receiver asks for less, or responds slowly or not in time.
    Overloaded,
    None,
}

/// How many POSTs may run at a time. A sign of load halves the window. A window full of successes adds one; after
/// [`Self::restart`] each success adds one, until the first sign of load.
#[derive(Debug)]
pub(super) struct AimdWindow {
    size: usize,
    /// At this size growth slows down.
    threshold: usize,
    /// Successes since the latest growth.
    successes: usize,
    usual_latency_ms: Option<f64>,
    halved_at: Option<UnixMillis>,
}

impl AimdWindow {
    /// A window without a limit of its own: only the subscription's `concurrency` applies.
    pub(super) fn open() -> Self {
        Self {
            size: usize::MAX,
            threshold: usize::MAX,
            successes: 0,
            usual_latency_ms: None,
            halved_at: None,
        }
    }

    /// Shrinks the window to one, so that the load on a recovered receiver grows step by step.
    pub(super) fn restart(&mut self) {
        (self.size, self.threshold, self.successes) = (1, usize::MAX, 0);
    }

    /// At least 1, at most `concurrency`, the subscription's limit.
    pub(super) fn size(&self, concurrency: usize) -> usize {
        self.size.clamp(1, concurrency.max(1))
    }

    /// `concurrency`: the subscription's limit.
    pub(super) fn handle_response(
        &mut self,
        response: &Response<'_>,
        now: UnixMillis,
        concurrency: usize,
    ) {
        match self.load_signal(response) {
            LoadSignal::Healthy => self.grow(),
            LoadSignal::Overloaded if self.is_current(response.started_at, now) => {
                let size = self.size(concurrency);
                let is_delivered = response.outcome.verdict() == Verdict::Delivered;
                let min = if is_delivered { MIN_SIZE_WHEN_SLOW.min(size) } else { 1 };
                self.size = (size / 2).max(min);
                (self.threshold, self.successes) = (self.size, 0);
                self.halved_at = Some(now);
            }
            LoadSignal::Overloaded | LoadSignal::None => {}
        }
    }

    /// Whether the attempt started after the window was last halved: earlier ones must not halve it again. Also true if
    /// the clock has stepped back since.
    fn is_current(&self, started_at: UnixMillis, now: UnixMillis) -> bool {
        self.halved_at.is_none_or(|halved_at| started_at > halved_at || halved_at > now)
    }

    /// Below `threshold` each success adds one; from it on, a window full of successes does.
    fn grow(&mut self) {
        self.successes += 1;
        if self.size < self.threshold || self.successes >= self.size {
            self.size = self.size.saturating_add(1);
            self.successes = 0;
        }
    }

    /// A 429, a 503, a timeout or a slow success means overloaded; failures other than these say nothing about load.
    fn load_signal(&mut self, response: &Response<'_>) -> LoadSignal {
        match response.outcome {
            Outcome::Answered { status: 429 | 503, .. } | Outcome::Failed(ErrorClass::Timeout) => {
                LoadSignal::Overloaded
            }
            Outcome::Answered { status: 200..=299, .. } if self.is_slow(response.latency) => {
                LoadSignal::Overloaded
            }
            Outcome::Answered { status: 200..=299, .. } => LoadSignal::Healthy,
            Outcome::Answered { .. } | Outcome::Failed(_) => LoadSignal::None,
        }
    }

    /// Also updates the usual latency with this response. The first response is not slow.
    fn is_slow(&mut self, latency: Duration) -> bool {
        let latency_ms = latency.as_secs_f64() * 1_000.0;
        let Some(usual_ms) = self.usual_latency_ms else {
            self.usual_latency_ms = Some(latency_ms);
            return false;
        };
        let weight = if latency_ms < usual_ms { FASTER_WEIGHT } else { SLOWER_WEIGHT };
        self.usual_latency_ms = Some(usual_ms + weight * (latency_ms - usual_ms));
        let margin_ms = SLOW_MARGIN.as_secs_f64() * 1_000.0;
        latency_ms > usual_ms * SLOW_FACTOR && latency_ms > usual_ms + margin_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONCURRENCY: usize = 16;
    const QUICK: Duration = Duration::from_millis(5);
    const OK: Outcome = Outcome::Answered { status: 204, retry_after: None };
    const BUSY: Outcome = Outcome::Answered { status: 429, retry_after: None };

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_i64(ms)
    }

    fn respond(window: &mut AimdWindow, outcome: &Outcome, latency: Duration, now: i64) -> usize {
        let response = Response { outcome, started_at: at(now - 1), latency };
        window.handle_response(&response, at(now), CONCURRENCY);
        window.size(CONCURRENCY)
    }

    #[test]
    fn a_429_halves_the_window_and_a_window_full_of_successes_adds_one() {
        let mut window = AimdWindow::open();
        assert_eq!(window.size(CONCURRENCY), CONCURRENCY);
        assert_eq!(respond(&mut window, &BUSY, QUICK, 10), 8);
        let early = Response { outcome: &BUSY, started_at: at(5), latency: QUICK };
        window.handle_response(&early, at(11), CONCURRENCY);
        assert_eq!(window.size(CONCURRENCY), 8, "the attempt began before the window was halved");
        assert_eq!(respond(&mut window, &BUSY, QUICK, 20), 4);
        for now in 30..34 {
            respond(&mut window, &OK, QUICK, now);
        }
        assert_eq!(window.size(CONCURRENCY), 5, "a window full of successes adds one");
    }

    #[test]
    fn timeouts_shrink_the_window_to_one_and_other_failures_do_not() {
        let mut window = AimdWindow::open();
        for now in 1..10 {
            respond(&mut window, &Outcome::Failed(ErrorClass::Timeout), QUICK, now * 10);
        }
        assert_eq!(window.size(CONCURRENCY), 1);
        let mut window = AimdWindow::open();
        for now in 1..10 {
            respond(
                &mut window,
                &Outcome::Answered { status: 500, retry_after: None },
                QUICK,
                now * 10,
            );
            respond(&mut window, &Outcome::Failed(ErrorClass::Connect), QUICK, now * 10 + 1);
        }
        assert_eq!(window.size(CONCURRENCY), CONCURRENCY);
    }

    #[test]
    fn slow_responses_shrink_the_window_to_four() {
        let mut window = AimdWindow::open();
        for now in 1..20 {
            respond(&mut window, &OK, QUICK, now);
        }
        for now in 3..20 {
            respond(&mut window, &OK, Duration::from_secs(1), now * 10);
        }
        assert_eq!(window.size(CONCURRENCY), 4);
    }

    #[test]
    fn after_a_recovery_each_success_adds_one() {
        let mut window = AimdWindow::open();
        window.restart();
        assert_eq!(window.size(CONCURRENCY), 1);
        for (now, size) in (2..).zip(2..=CONCURRENCY) {
            assert_eq!(respond(&mut window, &OK, QUICK, now), size);
        }
    }

    proptest! {
        #[test]
        fn a_window_stays_between_one_and_the_concurrency(answers in prop::collection::vec((0usize..4, 1u64..2_000), 0..200), max in 1usize..64) {
            let mut window = AimdWindow::open();
            for ((index, latency), now) in answers.into_iter().zip(1i64..) {
                let outcome = [&OK, &BUSY, &Outcome::Failed(ErrorClass::Timeout), &Outcome::Failed(ErrorClass::Dns)][index];
                let (started_at, latency) = (at(now * 10 - 1), Duration::from_millis(latency));
                window.handle_response(&Response { outcome, started_at, latency }, at(now * 10), max);
                prop_assert!((1..=max).contains(&window.size(max)));
            }
        }
    }
}
