//! Whether a receiver takes anything at all: after a run of failures nothing new is begun but a probe now and then.

use std::time::Duration;

use crate::domain::time::UnixMillis;

/// After so many failures in a row, with no success between them, a receiver counts as failing.
const MOST_FAILURES: usize = 20;
/// The first gap between probes, which doubles, and the longest.
const GAPS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1_200));

/// What changes with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swing {
    /// Nothing.
    None,
    /// The receiver counts as failing from now on.
    Opened,
    /// It has come back.
    Closed,
}

#[derive(Debug)]
struct Open {
    since: UnixMillis,
    probe_at: UnixMillis,
    gap: Duration,
}

/// One receiver's run of failures.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: usize,
    open: Option<Open>,
}

impl Breaker {
    /// A breaker that has been open since then; the next probe may be made at once.
    pub(crate) fn open_since(since: UnixMillis) -> Self {
        let open = Open { since, probe_at: since, gap: GAPS.0 };
        Self { failures: MOST_FAILURES, open: Some(open) }
    }

    /// Since when the receiver counts as failing.
    pub(crate) fn failing_since(&self) -> Option<UnixMillis> {
        self.open.as_ref().map(|open| open.since)
    }

    /// Notes an outcome.
    pub(crate) fn note(&mut self, delivered: bool, now: UnixMillis) -> Swing {
        if delivered {
            self.failures = 0;
            return if self.open.take().is_some() { Swing::Closed } else { Swing::None };
        }
        self.failures = self.failures.saturating_add(1);
        if self.open.is_some() || self.failures < MOST_FAILURES {
            return Swing::None;
        }
        let (probe_at, gap) = (now.after(GAPS.0), GAPS.0);
        self.open = Some(Open { since: now, probe_at, gap });
        Swing::Opened
    }

    /// When the next probe may be made, while it is open.
    pub(crate) fn probe_at(&self) -> Option<UnixMillis> {
        self.open.as_ref().map(|open| open.probe_at)
    }

    /// An attempt begins: a probe if it is time for one, and the next is due after a longer gap. Retries that are due in
    /// between do not put it off.
    pub(crate) fn begin(&mut self, now: UnixMillis) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe_at <= now) {
            open.gap = (open.gap * 2).min(GAPS.1);
            open.probe_at = now.after(open.gap);
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
        for _ in 1..MOST_FAILURES {
            assert_eq!(breaker.note(false, at(0)), Swing::None);
        }
        assert_eq!(breaker.note(false, at(0)), Swing::Opened);
        breaker
    }

    #[test]
    fn it_opens_after_a_run_of_failures_and_one_success_closes_it() {
        let mut breaker = opened();
        assert_eq!(breaker.failing_since(), Some(at(0)));
        assert_eq!(breaker.note(true, at(1)), Swing::Closed);
        assert_eq!((breaker.failing_since(), breaker.probe_at()), (None, None));
        assert_eq!(breaker.note(true, at(1)), Swing::None);
    }

    #[test]
    fn a_success_among_failures_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for n in 0..1_000 {
            assert_eq!(breaker.note(n % 19 == 0, at(n)), Swing::None);
        }
    }

    #[test]
    fn the_gaps_between_probes_grow_up_to_the_longest() {
        let mut breaker = opened();
        let mut gaps = Vec::new();
        for _ in 0..10 {
            let due = breaker.probe_at().unwrap();
            breaker.begin(due);
            breaker.begin(due.after(Duration::from_secs(1)));
            breaker.note(false, due);
            gaps.push(breaker.probe_at().unwrap().since(due).as_secs());
        }
        assert_eq!(gaps, [10, 20, 40, 80, 160, 320, 640, 1_200, 1_200, 1_200]);
    }
}
