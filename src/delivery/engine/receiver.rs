//! What is known of a receiver, and how much it may be sent by that.

use std::num::NonZeroU32;
use std::time::Duration;

use super::breaker::{Breaker, Swing};
use super::pace::Window;
use crate::domain::access::token_bucket::{Rate, TokenBucket};
use crate::domain::delivery::outcome::{Outcome, Verdict};
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::domain::time::UnixMillis;

/// What is known of a subscription's receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    breaker: Breaker,
    window: Window,
    /// Empty until the first attempt under a rate limit.
    bucket: Option<TokenBucket>,
}

/// Attempts of this much time may start in one burst, at least one.
const ATTEMPT_BURST: Duration = Duration::from_millis(100);

/// The rate at which attempts may start: the owner's limit or the one agreed in verification, whichever is lower.
fn attempt_rate(definition: &Definition) -> Option<Rate> {
    let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let own = definition.delivery().rate_limit_per_s.map(u32::from).map(at_least_one);
    let own = own.map(|rate| Rate::per_second(rate, ATTEMPT_BURST));
    let agreed =
        definition.verified().and_then(|verified| verified.rate_per_minute).map(at_least_one);
    let agreed = agreed.map(|max| Rate::at_most_per_minute(max, ATTEMPT_BURST));
    own.into_iter().chain(agreed).reduce(Rate::slower)
}

/// The time of a bucket of attempts.
fn since_epoch(now: UnixMillis) -> Duration {
    now.since(UnixMillis::EPOCH)
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
        Self { breaker, window: Window::open(), bucket: None }
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
        let Some(bucket) = attempt_rate(definition).and_then(|rate| self.bucket_of(rate)) else {
            return now;
        };
        let wait = bucket.wait_for(1, since_epoch(now));
        now.after(wait + Duration::from_nanos(999_999)) // rounded up to a millisecond
    }

    /// An attempt begins; it is a probe if it is time for one.
    pub(crate) fn begin(&mut self, definition: &Definition, now: UnixMillis) {
        if let Some(rate) = attempt_rate(definition) {
            let mut bucket = self.bucket_of(rate).unwrap_or_else(|| TokenBucket::new(rate));
            bucket.charge(1, since_epoch(now));
            self.bucket = Some(bucket);
        }
        self.breaker.begin(now);
    }

    /// The bucket, unless the rate has changed: the next attempt then starts with a full one.
    fn bucket_of(&self, rate: Rate) -> Option<TokenBucket> {
        self.bucket.filter(|bucket| bucket.rate() == rate)
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
