//! The token bucket behind every rate limit: publishing per tenant and attempts per subscription.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A caller's position against a rate limit, as the `RateLimit-*` response headers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Tokens per second.
    pub limit: u32,
    /// Tokens available now.
    pub remaining: u32,
    /// Whole seconds, rounded up: until the bucket is full or, after a refusal, until a retry succeeds.
    pub reset_s: u32,
}

/// `tokens` per `period`. A full bucket holds the tokens that accrue in the time `burst`, but at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    tokens: NonZeroU64,
    period: Duration,
    burst: Duration,
}

impl Rate {
    pub fn per_second(tokens: NonZeroU32, burst: Duration) -> Self {
        Self::new(tokens.into(), SECOND, burst)
    }

    /// A rate at which a bucket grants at most `max` tokens in any 60 seconds, those of a full bucket included.
    pub fn at_most_per_minute(max: NonZeroU32, burst: Duration) -> Self {
        let even = Self::new(max.into(), MINUTE, burst);
        // A window that starts with a full bucket sees fewer than `rate * (60 s + burst)` tokens.
        let with_burst = Self::new(NonZeroU64::from(max).saturating_add(1), MINUTE + burst, burst);
        even.slower(with_burst)
    }

    fn new(tokens: NonZeroU64, period: Duration, burst: Duration) -> Self {
        Self { tokens, period, burst }
    }

    /// Returns the rate that needs more time for one token; `self` if both need the same.
    #[must_use]
    pub fn slower(self, other: Self) -> Self {
        if self.time_of(1) >= other.time_of(1) { self } else { other }
    }

    /// Returns the time in which `tokens` accrue, rounded up to a nanosecond.
    fn time_of(&self, tokens: u32) -> Duration {
        let nanos =
            (u128::from(tokens) * self.period.as_nanos()).div_ceil(self.tokens.get().into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the number of tokens that accrue in `time`, rounded down.
    fn tokens_in(&self, time: Duration) -> u32 {
        let tokens = time.as_nanos() * u128::from(self.tokens.get()) / self.period.as_nanos();
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    fn capacity(&self) -> Duration {
        self.burst.max(self.time_of(1))
    }
}

/// A bucket that starts full and refills evenly: the generic cell rate algorithm (ITU-T I.371, annex A).
///
/// The state is the time at which the bucket is full, so no error accumulates; rounding favours the limit. A request
/// for more tokens than the bucket holds succeeds when the bucket is full and leaves a debt. In any time `t` at most
/// `rate * t` tokens, plus the larger of the burst and the largest request, are granted.
///
/// `now` is the time since any fixed instant, the same for all calls. A clock that was set back makes the bucket full.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    rate: Rate,
    /// The bucket is full from here on if nothing else is taken.
    full_at: Duration,
    /// Shows that the clock was set back.
    charged_at: Duration,
}

impl TokenBucket {
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Duration::ZERO, charged_at: Duration::ZERO }
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    pub fn is_full(&self, now: Duration) -> bool {
        self.refill_time(now).is_zero()
    }

    /// Takes all `tokens`, or none if the bucket holds too few (`Err`). Both results are for the response headers.
    pub fn try_take(
        &mut self,
        tokens: u32,
        now: Duration,
    ) -> Result<RateLimitStatus, RateLimitStatus> {
        let wait = self.wait_for(tokens, now);
        if !wait.is_zero() {
            return Err(self.status(self.refill_time(now), wait));
        }
        self.charge(tokens, now);
        let refill_time = self.refill_time(now);
        Ok(self.status(refill_time, refill_time))
    }

    /// Returns the time from `now` until [`Self::try_take`] of `tokens` succeeds; zero if it succeeds now.
    pub fn wait_for(&self, tokens: u32, now: Duration) -> Duration {
        let capacity = self.rate.capacity();
        let wanted = self.rate.time_of(tokens).min(capacity);
        (self.refill_time(now) + wanted).saturating_sub(capacity)
    }

    /// Takes `tokens` even if the bucket holds fewer. New tokens repay the debt first.
    pub fn charge(&mut self, tokens: u32, now: Duration) {
        self.full_at = now + self.refill_time(now) + self.rate.time_of(tokens);
        self.charged_at = now;
    }

    fn refill_time(&self, now: Duration) -> Duration {
        if now < self.charged_at { Duration::ZERO } else { self.full_at.saturating_sub(now) }
    }

    /// `refill_time`: until the bucket is full. `reset`: the time to report as [`RateLimitStatus::reset_s`].
    fn status(&self, refill_time: Duration, reset: Duration) -> RateLimitStatus {
        let reset_s = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        RateLimitStatus {
            limit: self.rate.tokens_in(SECOND),
            remaining: self.rate.tokens_in(self.rate.capacity().saturating_sub(refill_time)),
            reset_s: u32::try_from(reset_s).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn bucket(per_second: u32) -> TokenBucket {
        TokenBucket::new(Rate::per_second(count(per_second), SECOND))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn status(limit: u32, remaining: u32, reset_s: u32) -> RateLimitStatus {
        RateLimitStatus { limit, remaining, reset_s }
    }

    #[test]
    fn a_full_bucket_grants_one_burst_and_then_token_by_token() {
        let mut bucket = bucket(4);
        for remaining in [3, 2, 1, 0] {
            assert_eq!(bucket.try_take(1, ms(5)), Ok(status(4, remaining, 1)));
        }
        assert_eq!(bucket.try_take(1, ms(5)), Err(status(4, 0, 1)));
        assert_eq!(bucket.try_take(1, ms(254)), Err(status(4, 0, 1)));
        assert_eq!(bucket.try_take(1, ms(255)), Ok(status(4, 0, 1)));
        assert_eq!(bucket.try_take(3, ms(1_200)), Ok(status(4, 0, 1)));
    }

    #[test]
    fn a_request_above_the_burst_needs_a_full_bucket_and_leaves_a_debt() {
        let mut bucket = bucket(10);
        bucket.try_take(1, ms(0)).unwrap();
        assert_eq!(bucket.try_take(35, ms(99)), Err(status(10, 9, 1)));
        assert_eq!(bucket.try_take(35, ms(100)), Ok(status(10, 0, 4)));
        assert_eq!(bucket.try_take(1, ms(200)), Err(status(10, 0, 3)));
        assert_eq!(bucket.try_take(1, ms(2_699)), Err(status(10, 0, 1)));
        assert_eq!(bucket.try_take(1, ms(2_700)), Ok(status(10, 0, 1)));
        assert!(!bucket.is_full(ms(3_699)) && bucket.is_full(ms(3_700)));
    }

    #[test]
    fn a_burst_shorter_than_one_token_still_holds_one() {
        let mut bucket = TokenBucket::new(Rate::per_second(count(2), TENTH));
        assert!(bucket.try_take(1, ms(1_000)).is_ok());
        assert_eq!(bucket.wait_for(1, ms(1_000)), ms(500));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_the_bucket_full() {
        let mut bucket = bucket(1);
        bucket.charge(100, ms(50_000));
        assert!(bucket.try_take(1, ms(49_999)).is_ok());
        assert_eq!(bucket.wait_for(1, ms(49_999)), SECOND);
    }

    #[test]
    fn the_rate_per_minute_leaves_space_for_the_burst() {
        let slow = Rate::at_most_per_minute(count(60), TENTH);
        assert_eq!(slow.time_of(60), MINUTE);
        let fast = Rate::at_most_per_minute(count(6_009), TENTH);
        assert_eq!(fast.time_of(6_010), MINUTE + TENTH);
    }

    prop_compose! {
        /// Requests: time since the request before, and tokens.
        fn requests()(
            requests in prop::collection::vec((0_u64..400_000_000, 0_u32..40), 1..200)
        ) -> Vec<(Duration, u32)> {
            requests.into_iter().map(|(ns, tokens)| (Duration::from_nanos(ns), tokens)).collect()
        }
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_grants_more_than_rate_and_burst(
            per_second in 1_u32..60, burst_ms in 0_u64..2_000, requests in requests()
        ) {
            let rate = Rate::per_second(count(per_second), ms(burst_ms));
            let (mut bucket, mut now, mut granted) = (TokenBucket::new(rate), Duration::ZERO, Vec::new());
            for (gap, tokens) in requests {
                now += gap;
                if bucket.try_take(tokens, now).is_ok() {
                    granted.push((now, u128::from(tokens)));
                }
            }
            let nanos_per_token = SECOND.as_nanos();
            let burst = rate.capacity().as_nanos() * u128::from(per_second);
            for (first, (from, _)) in granted.iter().enumerate() {
                let (mut sum, mut largest) = (0, burst);
                for (at, tokens) in &granted[first..] {
                    sum += tokens;
                    largest = largest.max(*tokens * nanos_per_token);
                    let elapsed = at.saturating_sub(*from).as_nanos();
                    prop_assert!(sum * nanos_per_token <= u128::from(per_second) * elapsed + largest);
                }
            }
        }

        #[test]
        fn a_request_that_waits_as_long_as_reported_succeeds(
            per_second in 1_u32..10_000, burst_ms in 0_u64..2_000, requests in requests()
        ) {
            let mut bucket = TokenBucket::new(Rate::per_second(count(per_second), ms(burst_ms)));
            let mut now = Duration::ZERO;
            for (gap, tokens) in requests {
                now += gap;
                let wait = bucket.wait_for(tokens, now);
                let mut copy = bucket;
                prop_assert!(copy.try_take(tokens, now + wait).is_ok());
                let too_early = wait.saturating_sub(Duration::from_nanos(1));
                prop_assert!(wait.is_zero() || bucket.try_take(tokens, now + too_early).is_err());
                if let Err(refused) = bucket.try_take(tokens, now) {
                    now += Duration::from_secs(refused.reset_s.into());
                    prop_assert!(bucket.try_take(tokens, now).is_ok());
                }
            }
        }

        #[test]
        fn as_many_tokens_as_reported_remain(per_second in 1_u32..60, requests in requests()) {
            let (mut bucket, mut now) = (bucket(per_second), Duration::ZERO);
            for (gap, tokens) in requests {
                now += gap;
                let (Ok(status) | Err(status)) = bucket.try_take(tokens, now);
                let mut copy = bucket;
                prop_assert!(status.remaining == 0 || copy.try_take(status.remaining, now).is_ok());
                let mut copy = bucket;
                let more = status.remaining + 1;
                prop_assert!(more > per_second || copy.try_take(more, now).is_err());
            }
        }

        #[test]
        fn no_minute_sees_more_tokens_than_agreed(
            max in prop_oneof![1_u32..100, 500_u32..700, 1_000_u32..5_000],
            idle in prop::collection::vec(0_u64..90_000, 1..20),
        ) {
            let (mut bucket, mut now) =
                (TokenBucket::new(Rate::at_most_per_minute(count(max), TENTH)), Duration::ZERO);
            let mut granted: VecDeque<Duration> = VecDeque::new();
            for idle in idle {
                now += ms(idle);
                for _ in 0..max.min(1_500) {
                    now += bucket.wait_for(1, now);
                    prop_assert!(bucket.try_take(1, now).is_ok());
                    granted.push_back(now);
                    while granted.front().is_some_and(|first| now.saturating_sub(*first) >= MINUTE) {
                        granted.pop_front();
                    }
                    prop_assert!(granted.len() <= usize::try_from(max).unwrap(), "{} of {max}", granted.len());
                }
            }
        }
    }
}
