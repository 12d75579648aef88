//! The circuit breaker: after a run of failures only probes and due retries reach a receiver.

use std::time::Duration;

use crate::domain::time::UnixMillis;

/// This many failures in a row open the breaker.
const MAX_FAILURES: usize = 20;
/// The interval before the first probe. Each probe doubles it.
const MIN_PROBE_INTERVAL: Duration = Duration::from_secs(5);
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(1_200);

/// The effect of an outcome on a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerChange {
    None,
    Opened,
    Closed,
}

#[derive(Debug)]
struct Open {
    since: UnixMillis,
    probe_at: UnixMillis,
    interval: Duration,
}

/// The circuit breaker of one receiver.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: usize,
    open: Option<Open>,
}

impl Breaker {
    /// An open breaker, whose first probe may start at once.
    pub(super) fn open_since(since: UnixMillis) -> Self {
        let open = Open { since, probe_at: since, interval: MIN_PROBE_INTERVAL };
        Self { failures: MAX_FAILURES, open: Some(open) }
    }

    /// `None`: the breaker is closed.
    pub(super) fn failing_since(&self) -> Option<UnixMillis> {
        self.open.as_ref().map(|open| open.since)
    }

    /// A success closes the breaker; [`MAX_FAILURES`] failures in a row open it.
    pub(super) fn handle_outcome(&mut self, is_delivered: bool, now: UnixMillis) -> BreakerChange {
        if is_delivered {
            self.failures = 0;
            let was_open = self.open.take().is_some();
            return if was_open { BreakerChange::Closed } else { BreakerChange::None };
        }
        self.failures = self.failures.saturating_add(1);
        if self.open.is_some() || self.failures < MAX_FAILURES {
            return BreakerChange::None;
        }
        let (probe_at, interval) = (now.after(MIN_PROBE_INTERVAL), MIN_PROBE_INTERVAL);
        self.open = Some(Open { since: now, probe_at, interval });
        BreakerChange::Opened
    }

    /// `None`: the breaker is closed.
    pub(super) fn probe_at(&self) -> Option<UnixMillis> {
        self.open.as_ref().map(|open| open.probe_at)
    }

    /// If a probe is due, this attempt is the probe, and the interval to the next one doubles.
    pub(super) fn start_attempt(&mut self, now: UnixMillis) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe_at <= now) {
            open.interval = (open.interval * 2).min(MAX_PROBE_INTERVAL);
            open.probe_at = now.after(open.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::from_i64(seconds * 1_000)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..MAX_FAILURES {
            assert_eq!(breaker.handle_outcome(false, at(0)), BreakerChange::None);
        }
        assert_eq!(breaker.handle_outcome(false, at(0)), BreakerChange::Opened);
        breaker
    }

    #[test]
    fn a_run_of_failures_opens_the_breaker_and_one_success_closes_it() {
        let mut breaker = opened();
        assert_eq!(breaker.failing_since(), Some(at(0)));
        assert_eq!(breaker.handle_outcome(true, at(1)), BreakerChange::Closed);
        assert_eq!((breaker.failing_since(), breaker.probe_at()), (None, None));
        assert_eq!(breaker.handle_outcome(true, at(1)), BreakerChange::None);
    }

    #[test]
    fn a_success_among_failures_keeps_the_breaker_closed() {
        let mut breaker = Breaker::default();
        for n in 0..1_000 {
            assert_eq!(breaker.handle_outcome(n % 19 == 0, at(n)), BreakerChange::None);
        }
    }

    #[test]
    fn the_probe_interval_doubles_up_to_its_maximum() {
        let mut breaker = opened();
        let mut intervals = Vec::new();
        for _ in 0..10 {
            let due = breaker.probe_at().unwrap();
            breaker.start_attempt(due);
            breaker.start_attempt(due.after(Duration::from_secs(1)));
            breaker.handle_outcome(false, due);
            intervals.push(breaker.probe_at().unwrap().since(due).as_secs());
        }
        assert_eq!(intervals, [10, 20, 40, 80, 160, 320, 640, 1_200, 1_200, 1_200]);
    }
}
