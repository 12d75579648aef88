//! The health of a receiver as the engine sees it, and the limits on the attempts that follow from it.

use std::num::NonZeroU32;
use std::time::Duration;

use super::aimd::{AimdWindow, Response};
use super::breaker::{Breaker, BreakerChange};
use crate::domain::access::token_bucket::{Rate, TokenBucket};
use crate::domain::delivery::outcome::Verdict;
use crate::domain::subscription::{Definition, Status, Subscription};
use crate::domain::time::UnixMillis;

/// A burst has as many attempts as the rate allows in this time, but at least one.
const ATTEMPT_BURST: Duration = Duration::from_millis(100);

/// A subscription's receiver: its circuit breaker, its AIMD window and its rate limit.
#[derive(Debug)]
pub(super) struct Receiver {
    breaker: Breaker,
    window: AimdWindow,
    /// Empty until the first attempt under a rate limit.
    bucket: Option<TokenBucket>,
}

/// The lower of the owner's limit and the one that the receiver stated in its verification. `None`: no limit.
fn attempt_rate(definition: &Definition) -> Option<Rate> {
    let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let own = definition.delivery().rate_limit_per_s.map(u32::from).map(at_least_one);
    let own = own.map(|rate| Rate::per_second(rate, ATTEMPT_BURST));
    let agreed =
        definition.verified().and_then(|verified| verified.rate_per_minute).map(at_least_one);
    let agreed = agreed.map(|max| Rate::at_most_per_minute(max, ATTEMPT_BURST));
    own.into_iter().chain(agreed).reduce(Rate::slower)
}

fn since_epoch(now: UnixMillis) -> Duration {
    now.since(UnixMillis::EPOCH)
}

impl Receiver {
    /// If the status is failing, the circuit breaker starts open.
    pub(super) fn new(subscription: &Subscription) -> Self {
        let breaker = match subscription.status {
            Status::Failing => Breaker::open_since(subscription.changed_at.time()),
            Status::Active | Status::Paused | Status::Disabled | Status::Unverified => {
                Breaker::default()
            }
        };
        Self { breaker, window: AimdWindow::open(), bucket: None }
    }

    /// Closes the circuit breaker and removes the window's own limit. The rate limit stays.
    pub(super) fn reset(&mut self) {
        (self.breaker, self.window) = (Breaker::default(), AimdWindow::open());
    }

    /// `None`: the circuit breaker is closed.
    pub(super) fn failing_since(&self) -> Option<UnixMillis> {
        self.breaker.failing_since()
    }

    /// `None`: the circuit breaker is closed.
    pub(super) fn probe_at(&self) -> Option<UnixMillis> {
        self.breaker.probe_at()
    }

    /// The size of the AIMD window, or 1 while the circuit breaker is open.
    pub(super) fn concurrency(&self, definition: &Definition) -> usize {
        match self.breaker.failing_since() {
            Some(_) => 1,
            None => self.window.size(definition.delivery().concurrency()),
        }
    }

    /// When the rate limit permits the next attempt: `now` or later.
    pub(super) fn limited_until(&self, definition: &Definition, now: UnixMillis) -> UnixMillis {
        let Some(bucket) = attempt_rate(definition).and_then(|rate| self.bucket_of(rate)) else {
            return now;
        };
        let wait = bucket.wait_for(1, since_epoch(now));
        now.after(wait + Duration::from_nanos(999_999)) // rounded up to a millisecond
    }

    /// Takes a token of the rate limit. If a probe is due, this attempt is the probe.
    pub(super) fn start_attempt(&mut self, definition: &Definition, now: UnixMillis) {
        if let Some(rate) = attempt_rate(definition) {
            let mut bucket = self.bucket_of(rate).unwrap_or_else(|| TokenBucket::new(rate));
            bucket.charge(1, since_epoch(now));
            self.bucket = Some(bucket);
        }
        self.breaker.start_attempt(now);
    }

    /// `None`: no attempt has started at this rate, so the bucket is full.
    fn bucket_of(&self, rate: Rate) -> Option<TokenBucket> {
        self.bucket.filter(|bucket| bucket.rate() == rate)
    }

    /// Updates the window and the breaker. If the breaker closes, the window shrinks to one.
    pub(super) fn handle_response(
        &mut self,
        definition: &Definition,
        response: &Response<'_>,
        now: UnixMillis,
    ) {
        self.window.handle_response(response, now, definition.delivery().concurrency());
        let is_delivered = response.outcome.verdict() == Verdict::Delivered;
        if self.breaker.handle_outcome(is_delivered, now) == BreakerChange::Closed {
            self.window.restart();
        }
    }
}
