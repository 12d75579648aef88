//! Quotas on this node: what is in force for each tenant, and what was refused by it.

mod buckets;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::buckets::Buckets;
use crate::domain::access::quota::{OwnQuotas, Quotas};
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::metrics::Count;
use crate::store::tenants::QuotaChange;
use crate::store::{Store, StoreError};

/// How often changes made on other nodes are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// After so many looks for changes all are read anew: a standby that was promoted may not have the last of them.
const LOOKS: u32 = 60;
/// When a tenant that may not do something at all may ask again, in seconds.
const NOT_SOON_S: u32 = 60;

/// A quota that something can be refused by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    /// Of events per second.
    EventsPerS,
    /// Of subscriptions.
    Subscriptions,
    /// Of streams.
    Streams,
}

impl Quota {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::EventsPerS, Self::Subscriptions, Self::Streams];

    /// The name in JSON and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EventsPerS => "events_per_s",
            Self::Subscriptions => "subscriptions",
            Self::Streams => "streams",
        }
    }
}

/// What each tenant may do, held in memory: nothing is looked up when a tenant does something.
#[derive(Debug)]
pub(crate) struct QuotasInForce {
    default: Quotas,
    own: RwLock<HashMap<Arc<str>, OwnQuotas>>,
    /// Up to which version changes are known. One look at a time.
    known: tokio::sync::Mutex<i64>,
    buckets: Buckets,
    refused: [Count; Quota::ALL.len()],
}

impl QuotasInForce {
    /// With `default` for whom nothing else is said.
    pub(crate) fn new(default: Quotas) -> Self {
        Self {
            default,
            own: RwLock::default(),
            known: tokio::sync::Mutex::new(0),
            buckets: Buckets::default(),
            refused: Default::default(),
        }
    }

    /// What a tenant may do.
    pub(crate) fn of(&self, tenant: &str) -> Quotas {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.get(tenant).map_or(self.default, |own| own.over(self.default))
    }

    /// Takes so many events of a tenant's `rate`, or refuses all of them; how it stands then.
    pub(crate) fn take(
        &self,
        tenant: &Arc<str>,
        rate: u32,
        events: u32,
    ) -> Result<RateLimitStatus, RateLimitStatus> {
        let taken = match NonZeroU32::new(rate) {
            Some(rate) => self.buckets.take(tenant, rate, events),
            None => Err(RateLimitStatus { limit: 0, remaining: 0, reset_s: NOT_SOON_S }),
        };
        if taken.is_err() {
            self.refuse(Quota::EventsPerS, tenant);
        }
        taken
    }

    /// Notes that something was refused.
    pub(crate) fn refuse(&self, quota: Quota, tenant: &str) {
        tracing::debug!(tenant, quota = quota.name(), "refused: over its quota");
        self.count(quota).add(1);
    }

    /// How often something was refused by a quota since the start.
    pub(crate) fn refused(&self, quota: Quota) -> u64 {
        self.count(quota).get()
    }

    fn count(&self, quota: Quota) -> &Count {
        let [events_per_s, subscriptions, streams] = &self.refused;
        match quota {
            Quota::EventsPerS => events_per_s,
            Quota::Subscriptions => subscriptions,
            Quota::Streams => streams,
        }
    }

    /// Looks for what has changed since the last look.
    pub(crate) async fn look(&self, store: &Store) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        for QuotaChange { name, quotas, version } in store.select_quota_changes(*known).await? {
            let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
            if quotas == OwnQuotas::default() {
                own.remove(&*name);
            } else {
                own.insert(name.into(), quotas);
            }
            *known = version;
        }
        Ok(())
    }

    /// Reads all of them.
    pub(crate) async fn look_anew(&self, store: &Store) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        let all = store.select_quota_changes(0).await?;
        *known = all.last().map_or(0, |last| last.version);
        let own = all.into_iter().filter(|change| change.quotas != OwnQuotas::default());
        let own = own.map(|change| (change.name.into(), change.quotas)).collect();
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
        Ok(())
    }

    /// Keeps looking until `stop`. While the database is away, what was last read is in force.
    pub(crate) async fn follow(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let looking = async {
            for looks in (1..=LOOKS).cycle() {
                tokio::time::sleep(EVERY).await;
                let is_last = looks == LOOKS;
                let looked =
                    if is_last { self.look_anew(&store).await } else { self.look(&store).await };
                if let Err(error) = looked {
                    tracing::debug!(%error, "cannot look for changes of quotas");
                }
            }
        };
        stop.run_until_cancelled(looking).await;
    }
}
