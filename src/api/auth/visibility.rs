//! Visibility: a key limited to event types sees only the subscriptions whose patterns were always within those types.
//!
//! Any other subscription is answered 404. A key that could change such a subscription could read events beyond its
//! types.

use std::collections::{HashMap, HashSet};

use super::caller::Caller;
use crate::api::problem::{ApiResult, Problem};
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::version::Version;
use crate::store::{Store, StoreError};

/// Reads the pattern versions of each of these subscriptions, oldest first. A subscription without versions is absent.
pub(crate) async fn versions_by_subscription(
    store: &Store,
    ids: &[i64],
) -> Result<HashMap<SubscriptionId, Vec<Version>>, StoreError> {
    let mut versions: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in store.select_versions(ids).await? {
        versions.entry(id).or_default().push(version);
    }
    Ok(versions)
}

/// Returns those of the subscriptions `ids` that the caller may not see.
pub(crate) async fn invisible(
    api: &Api,
    caller: &Caller,
    ids: impl IntoIterator<Item = SubscriptionId>,
) -> ApiResult<HashSet<SubscriptionId>> {
    if caller.key.event_types.is_none() {
        return Ok(HashSet::new());
    }
    let ids: Vec<SubscriptionId> = ids.into_iter().collect();
    let stored: Vec<i64> = ids.iter().map(|id| id.stored()).collect();
    let versions = versions_by_subscription(&api.store, &stored).await?;
    let is_invisible =
        |id: &SubscriptionId| !is_visible(caller, versions.get(id).map(Vec::as_slice));
    Ok(ids.into_iter().filter(is_invisible).collect())
}

/// `versions`: the subscription's pattern versions, oldest first; `None` if it has none.
pub(crate) fn is_visible(caller: &Caller, versions: Option<&[Version]>) -> bool {
    if caller.key.event_types.is_none() {
        return true;
    }
    versions.is_some_and(|versions| {
        versions.iter().all(|version| caller.key.covers(&version.event_types))
    })
}

/// 404 if the caller may not see the subscription, as if it did not exist.
pub(crate) async fn require_visible(
    api: &Api,
    caller: &Caller,
    id: SubscriptionId,
) -> ApiResult<()> {
    if invisible(api, caller, [id]).await?.is_empty() {
        Ok(())
    } else {
        Err(Problem::not_found("subscription"))
    }
}
