//! A bucket of events: how many may come in a second, and when the next may.

use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// How one stands with a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many may come in a second.
    pub limit: u32,
    /// How many may come now.
    pub remaining: u32,
    /// Whole seconds, rounded up, until there is room: all of it, or enough for what was refused.
    pub reset_s: u32,
}

/// Holds the events of one second, and is full at first.
///
/// What asks for more than it ever holds is let through when it is full, and leaves a debt: so in any time `t` no more
/// than `rate * t` and the larger of `rate` and the largest request come through.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: NonZeroU32,
    /// When nothing is missing any more, if nothing else is taken (this is the generic cell rate algorithm of ITU-T
    /// I.371, annex A, which needs no counting and rounds against who asks).
    full_at: Duration,
}

impl Bucket {
    /// A full one, of `rate` events per second.
    pub fn new(rate: NonZeroU32) -> Self {
        Self { rate, full_at: Duration::ZERO }
    }

    /// Of how many events per second it is.
    pub fn rate(&self) -> NonZeroU32 {
        self.rate
    }

    /// Whether nothing is missing at `now`. Times count from any beginning, the same for all calls.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }

    /// Takes so many events, or none of them. Both ways: how one stands then.
    pub fn take(&mut self, events: u32, now: Duration) -> Result<Standing, Standing> {
        let missing = self.full_at.saturating_sub(now);
        let wanted = missing + self.time_of(events.min(self.rate.get()));
        if wanted > SECOND {
            return Err(self.standing(missing, wanted.saturating_sub(SECOND)));
        }
        let missing = missing + self.time_of(events);
        self.full_at = now + missing;
        Ok(self.standing(missing, missing))
    }

    fn standing(&self, missing: Duration, reset: Duration) -> Standing {
        let left = SECOND.saturating_sub(missing).as_nanos() * u128::from(self.rate.get());
        let reset_s = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        Standing {
            limit: self.rate.get(),
            remaining: u32::try_from(left / SECOND.as_nanos()).unwrap_or(u32::MAX),
            reset_s: u32::try_from(reset_s).unwrap_or(u32::MAX),
        }
    }

    /// In what time so many events may come, rounded up.
    fn time_of(&self, events: u32) -> Duration {
        let nanos = u128::from(events) * SECOND.as_nanos();
        let nanos = nanos.div_ceil(u128::from(self.rate.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(rate: u32) -> Bucket {
        Bucket::new(NonZeroU32::new(rate).unwrap())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stands(limit: u32, remaining: u32, reset_s: u32) -> Standing {
        Standing { limit, remaining, reset_s }
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_one_after_the_other() {
        let mut bucket = bucket(4);
        for remaining in [3, 2, 1, 0] {
            assert_eq!(bucket.take(1, ms(5)), Ok(stands(4, remaining, 1)));
        }
        assert_eq!(bucket.take(1, ms(5)), Err(stands(4, 0, 1)));
        assert_eq!(bucket.take(1, ms(254)), Err(stands(4, 0, 1)));
        assert_eq!(bucket.take(1, ms(255)), Ok(stands(4, 0, 1)));
        assert_eq!(bucket.take(3, ms(1_200)), Ok(stands(4, 0, 1)));
    }

    #[test]
    fn a_larger_batch_waits_for_a_full_bucket_and_is_paid_for_afterwards() {
        let mut bucket = bucket(10);
        bucket.take(1, ms(0)).unwrap();
        assert_eq!(bucket.take(35, ms(99)), Err(stands(10, 9, 1)));
        assert_eq!(bucket.take(35, ms(100)), Ok(stands(10, 0, 4)));
        assert_eq!(bucket.take(1, ms(200)), Err(stands(10, 0, 3)));
        assert_eq!(bucket.take(1, ms(2_699)), Err(stands(10, 0, 1)));
        assert_eq!(bucket.take(1, ms(2_700)), Ok(stands(10, 0, 1)));
        assert!(!bucket.is_full(ms(3_699)) && bucket.is_full(ms(3_700)));
    }

    prop_compose! {
        /// Requests: how long after the one before, for how many events.
        fn requests()(
            requests in prop::collection::vec((0_u64..400_000_000, 0_u32..40), 1..200)
        ) -> Vec<(Duration, u32)> {
            requests.into_iter().map(|(ns, events)| (Duration::from_nanos(ns), events)).collect()
        }
    }

    proptest! {
        #[test]
        fn never_more_comes_through_than_the_rate_allows(rate in 1_u32..60, requests in requests()) {
            let (mut bucket, mut now, mut taken) = (bucket(rate), Duration::ZERO, Vec::new());
            for (gap, events) in requests {
                now += gap;
                if bucket.take(events, now).is_ok() {
                    taken.push((now, u128::from(events)));
                }
            }
            // In each stretch of time, from one that came through to another.
            for (first, (from, _)) in taken.iter().enumerate() {
                let (mut sum, mut largest) = (0, u128::from(rate));
                for (at, events) in &taken[first..] {
                    sum += events;
                    largest = largest.max(*events);
                    let elapsed = at.saturating_sub(*from).as_nanos();
                    prop_assert!(sum * SECOND.as_nanos() <= u128::from(rate) * elapsed + largest * SECOND.as_nanos());
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_is_told_is_let_through(rate in 1_u32..60, requests in requests()) {
            let (mut bucket, mut now) = (bucket(rate), Duration::ZERO);
            for (gap, events) in requests {
                now += gap;
                if let Err(refused) = bucket.take(events, now) {
                    now += Duration::from_secs(refused.reset_s.into());
                    prop_assert!(bucket.take(events, now).is_ok());
                }
            }
        }

        #[test]
        fn as_many_as_are_said_to_remain_come_through(rate in 1_u32..60, requests in requests()) {
            let (mut bucket, mut now) = (bucket(rate), Duration::ZERO);
            for (gap, events) in requests {
                now += gap;
                let (Ok(standing) | Err(standing)) = bucket.take(events, now);
                let mut copy = bucket;
                prop_assert!(standing.remaining == 0 || copy.take(standing.remaining, now).is_ok());
                let mut copy = bucket;
                let more = standing.remaining + 1;
                prop_assert!(more > rate || copy.take(more, now).is_err());
            }
        }
    }
}
