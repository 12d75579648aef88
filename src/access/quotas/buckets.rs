//! A bucket for each tenant that has a rate and publishes.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::access::token_bucket::{Rate, RateLimitStatus, TokenBucket};

/// When there are so many buckets, or twice as many as were left the last time, full ones are thrown away: they are as
/// good as new.
const MANY: usize = 1_024;
/// A full bucket holds what may be published in this time.
const PUBLISH_BURST: Duration = Duration::from_secs(1);

/// The buckets of this node, since its start.
#[derive(Debug)]
pub(crate) struct Buckets {
    start: Instant,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    of: HashMap<Arc<str>, TokenBucket>,
    left: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { start: Instant::now(), held: Mutex::default() }
    }
}

impl Buckets {
    /// Takes so many events from a tenant's bucket, or none of them. A bucket of another rate gives way to a new one.
    pub(crate) fn take(
        &self,
        tenant: &Arc<str>,
        rate: NonZeroU32,
        events: u32,
    ) -> Result<RateLimitStatus, RateLimitStatus> {
        let rate = Rate::per_second(rate, PUBLISH_BURST);
        let now = self.start.elapsed();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = held.of.get_mut(tenant)
            && bucket.rate() == rate
        {
            return bucket.try_take(events, now);
        }
        if held.of.len() >= MANY.max(held.left * 2) {
            held.of.retain(|_, bucket| !bucket.is_full(now));
            held.left = held.of.len();
        }
        let mut bucket = TokenBucket::new(rate);
        let taken = bucket.try_take(events, now);
        held.of.insert(Arc::clone(tenant), bucket);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_buckets_do_not_pile_up_and_no_other_is_lost() {
        let (buckets, rate) = (Buckets::default(), NonZeroU32::new(1_000_000).unwrap());
        let (slow, busy) = (NonZeroU32::MIN, Arc::from("busy"));
        buckets.take(&busy, slow, 1_000).unwrap();
        for n in 0..20 * MANY {
            buckets.take(&n.to_string().into(), rate, 1).unwrap();
        }
        assert!(buckets.held.lock().unwrap().of.len() < 4 * MANY);
        assert!(buckets.take(&busy, slow, 1).is_err());
    }

    #[test]
    fn another_rate_is_in_force_at_once() {
        let (buckets, tenant) = (Buckets::default(), Arc::from("a"));
        buckets.take(&tenant, NonZeroU32::MIN, 1_000).unwrap();
        let standing = buckets.take(&tenant, NonZeroU32::new(10).unwrap(), 1).unwrap();
        assert_eq!((standing.limit, standing.remaining), (10, 9));
    }
}
