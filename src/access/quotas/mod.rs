//! The quotas of each tenant on this node, and how often each quota rejected a request.

mod buckets;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio_util::sync::CancellationToken;

use self::buckets::Buckets;
use crate::domain::access::quota::{OwnQuotas, Quotas};
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::metrics::Counter;
use crate::store::tenants::QuotaChange;
use crate::store::{Store, StoreError};

/// How often the changes of other nodes are read.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// One in this many refreshes reads all quotas again: a promoted standby may lack the last changes.
const REFRESHES_PER_RELOAD: u32 = 60;
/// `Retry-After` for a tenant whose rate is zero, in seconds.
const ZERO_RATE_RETRY_AFTER_S: u32 = 60;

/// A quota whose rejections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Quota {
    EventsPerS,
    Subscriptions,
    Streams,
}

impl Quota {
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// The quotas of all tenants, in memory: no request waits for the database to check one.
#[derive(Debug)]
pub(crate) struct TenantQuotas {
    default: Quotas,
    own: RwLock<HashMap<Arc<str>, OwnQuotas>>,
    /// The newest version read. The lock allows one refresh at a time.
    version: tokio::sync::Mutex<i64>,
    buckets: Buckets,
    refused: [Counter; Quota::VARIANTS.len()],
}

impl TenantQuotas {
    /// Gives every tenant the quotas `default`, until [`Self::reload`] or [`Self::refresh`] reads their own.
    pub(crate) fn new(default: Quotas) -> Self {
        Self {
            default,
            own: RwLock::default(),
            version: tokio::sync::Mutex::new(0),
            buckets: Buckets::default(),
            refused: Default::default(),
        }
    }

    /// Returns the quotas that apply to a tenant: its own, and the default for each that the tenant does not set.
    pub(crate) fn quotas_of(&self, tenant: &str) -> Quotas {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.get(tenant).map_or(self.default, |own| own.over(self.default))
    }

    /// Takes `events` tokens from the tenant's bucket, which refills at `rate` per second; zero refuses every request.
    /// `Err`: too few; none are taken, and the rejection is counted.
    pub(crate) fn take_tokens(
        &self,
        tenant: &Arc<str>,
        rate: u32,
        events: u32,
    ) -> Result<RateLimitStatus, RateLimitStatus> {
        let taken = match NonZeroU32::new(rate) {
            Some(rate) => self.buckets.take_tokens(tenant, rate, events),
            None => {
                Err(RateLimitStatus { limit: 0, remaining: 0, reset_s: ZERO_RATE_RETRY_AFTER_S })
            }
        };
        if taken.is_err() {
            self.count_rejection(Quota::EventsPerS, tenant);
        }
        taken
    }

    /// Increments the rejection counter of `quota`, and logs that this quota rejected a request of the tenant.
    pub(crate) fn count_rejection(&self, quota: Quota, tenant: &str) {
        tracing::debug!(tenant, quota = quota.name(), "rejected: the tenant is over its quota");
        self.rejection_counter(quota).add(1);
    }

    /// Returns how many requests, of all tenants, were rejected because of `quota` since the process started.
    pub(crate) fn rejections(&self, quota: Quota) -> u64 {
        self.rejection_counter(quota).get()
    }

    fn rejection_counter(&self, quota: Quota) -> &Counter {
        let [events_per_s, subscriptions, streams] = &self.refused;
        match quota {
            Quota::EventsPerS => events_per_s,
            Quota::Subscriptions => subscriptions,
            Quota::Streams => streams,
        }
    }

    /// Reads from the database the quotas of the tenants that changed since the last refresh, and applies them.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let mut known_version = self.version.lock().await;
        for QuotaChange { name, quotas, version } in
            store.select_quota_changes(*known_version).await?
        {
            let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
            if quotas == OwnQuotas::default() {
                own.remove(&*name);
            } else {
                own.insert(name.into(), quotas);
            }
            *known_version = version;
        }
        Ok(())
    }

    /// Reads the quotas of all tenants from the database, and replaces the quotas in memory by them.
    pub(crate) async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let mut known_version = self.version.lock().await;
        let all = store.select_quota_changes(0).await?;
        *known_version = all.last().map_or(0, |last| last.version);
        let own = all.into_iter().filter(|change| change.quotas != OwnQuotas::default());
        let own = own.map(|change| (change.name.into(), change.quotas)).collect();
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
        Ok(())
    }

    /// Refreshes every [`REFRESH_INTERVAL`] until `stop`. While the database is unavailable, the last quotas stay in force.
    pub(crate) async fn follow(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let refreshing = async {
            for n in (1..=REFRESHES_PER_RELOAD).cycle() {
                tokio::time::sleep(REFRESH_INTERVAL).await;
                let is_reload = n == REFRESHES_PER_RELOAD;
                let refreshed =
                    if is_reload { self.reload(&store).await } else { self.refresh(&store).await };
                if let Err(error) = refreshed {
                    tracing::debug!(%error, "cannot read changes of quotas");
                }
            }
        };
        stop.run_until_cancelled(refreshing).await;
    }
}
