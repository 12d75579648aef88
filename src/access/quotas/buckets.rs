//! The token bucket of each tenant that publishes under a rate limit.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::access::token_bucket::{Rate, RateLimitStatus, TokenBucket};

/// The minimum number of buckets for a sweep, which removes the full ones. The next sweep runs when twice as many buckets
/// exist as the last one left.
const MIN_SWEEP_SIZE: usize = 1_024;
/// The capacity of a bucket: the tokens that its rate adds in this time.
const PUBLISH_BURST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Buckets {
    start: Instant,
    by_tenant: Mutex<ByTenant>,
}

#[derive(Debug, Default)]
struct ByTenant {
    buckets: HashMap<Arc<str>, TokenBucket>,
    /// The number of buckets that the last sweep left.
    left: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { start: Instant::now(), by_tenant: Mutex::default() }
    }
}

impl Buckets {
    /// Takes `events` tokens from the tenant's bucket, which refills at `rate` per second; a full bucket grants any number.
    /// `Err`: too few, and none are taken. After a change of `rate`, the bucket is new and full.
    pub(crate) fn take_tokens(
        &self,
        tenant: &Arc<str>,
        rate: NonZeroU32,
        events: u32,
    ) -> Result<RateLimitStatus, RateLimitStatus> {
        let rate = Rate::per_second(rate, PUBLISH_BURST);
        let now = self.start.elapsed();
        let mut by_tenant = self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = by_tenant.buckets.get_mut(tenant)
            && bucket.rate() == rate
        {
            return bucket.try_take(events, now);
        }
        if by_tenant.buckets.len() >= MIN_SWEEP_SIZE.max(by_tenant.left * 2) {
            by_tenant.buckets.retain(|_, bucket| !bucket.is_full(now));
            by_tenant.left = by_tenant.buckets.len();
        }
        let mut bucket = TokenBucket::new(rate);
        let taken = bucket.try_take(events, now);
        by_tenant.buckets.insert(Arc::clone(tenant), bucket);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_buckets_are_swept_and_others_stay() {
        let (buckets, rate) = (Buckets::default(), NonZeroU32::new(1_000_000).unwrap());
        let (slow, busy) = (NonZeroU32::MIN, Arc::from("busy"));
        buckets.take_tokens(&busy, slow, 1_000).unwrap();
        for n in 0..20 * MIN_SWEEP_SIZE {
            buckets.take_tokens(&n.to_string().into(), rate, 1).unwrap();
        }
        assert!(buckets.by_tenant.lock().unwrap().buckets.len() < 4 * MIN_SWEEP_SIZE);
        assert!(buckets.take_tokens(&busy, slow, 1).is_err());
    }

    #[test]
    fn a_changed_rate_applies_at_once() {
        let (buckets, tenant) = (Buckets::default(), Arc::from("a"));
        buckets.take_tokens(&tenant, NonZeroU32::MIN, 1_000).unwrap();
        let status = buckets.take_tokens(&tenant, NonZeroU32::new(10).unwrap(), 1).unwrap();
        assert_eq!((status.limit, status.remaining), (10, 9));
    }
}
