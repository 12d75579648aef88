//! What is known of a receiver, and how much it may be sent by that.

use std::time::Duration;

use super::breaker::{Breaker, Swing};
use super::pace::{RateLimit, Window, within_a_minute};
use crate::domain::delivery::outcome::{Outcome, Verdict};
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::domain::time::UnixMillis;

/// What is known of a subscription's receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    breaker: Breaker,
    window: Window,
    limit: RateLimit,
}

/// How many attempts may begin in a second: what its owner wants or it agreed to, whichever is less.
fn most_per_second(definition: &Definition) -> Option<f64> {
    let wanted = definition.delivery().rate_limit_per_s.map(f64::from);
    let agreed = definition.verified().and_then(|verified| verified.rate_per_minute);
    wanted.into_iter().chain(agreed.map(within_a_minute)).reduce(f64::min)
}

impl Receiver {
    /// A receiver that nothing is known of but its subscription's status.
    pub(crate) fn of(subscription: &Subscription) -> Self {
        let breaker = match subscription.status {
            Status::Failing => Breaker::open_since(subscription.changed_at.time()),
            Status::Active | Status::Paused | Status::Disabled | Status::Unverified => {
                Breaker::default()
            }
        };
        Self { breaker, window: Window::open(), limit: RateLimit::default() }
    }

    /// Whatever it did, it is taken for another one now.
    pub(crate) fn begin_again(&mut self) {
        (self.breaker, self.window) = (Breaker::default(), Window::open());
    }

    /// Since when it has taken nothing, after a run of failures.
    pub(crate) fn failing_since(&self) -> Option<UnixMillis> {
        self.breaker.failing_since()
    }

    /// When the next probe may be made, while it is failing.
    pub(crate) fn probe_at(&self) -> Option<UnixMillis> {
        self.breaker.probe_at()
    }

    /// How many attempts may run at once: what it bears, and one alone while it is failing.
    pub(crate) fn most_at_once(&self, definition: &Definition) -> usize {
        match self.breaker.failing_since() {
            Some(_) => 1,
            None => self.window.size(definition.delivery().concurrency()),
        }
    }

    /// When the limits on it let the next attempt begin: now, or later.
    pub(crate) fn limit_ends_at(&self, definition: &Definition, now: UnixMillis) -> UnixMillis {
        self.limit.next_at(most_per_second(definition), now)
    }

    /// An attempt begins; it is a probe if it is time for one.
    pub(crate) fn begin(&mut self, definition: &Definition, now: UnixMillis) {
        self.limit.take(most_per_second(definition), now);
        self.breaker.begin(now);
    }

    /// Notes what it did with an attempt that began at `began` and took `latency`.
    pub(crate) fn note(
        &mut self,
        definition: &Definition,
        outcome: &Outcome,
        (began, latency): (UnixMillis, Duration),
        now: UnixMillis,
    ) {
        self.window.note(outcome, (began, latency), now, definition.delivery().concurrency());
        if self.breaker.note(outcome.verdict() == Verdict::Delivered, now) == Swing::Closed {
            self.window.begin_again();
        }
    }
}
