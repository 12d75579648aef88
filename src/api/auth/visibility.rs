//! Which of a tenant's subscriptions are there for a key with event types: those that never chose an event beyond them.
//! The others are as if they were not there, for whoever may change a subscription gets what it gets.

use std::collections::{HashMap, HashSet};

use super::caller::Caller;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::version::Version;

/// Of these subscriptions those that are not there for the caller's key.
pub(crate) async fn hidden(
    api: &Api,
    caller: &Caller,
    ids: impl IntoIterator<Item = SubscriptionId>,
) -> Result<HashSet<SubscriptionId>, Problem> {
    if caller.key.event_types.is_none() {
        return Ok(HashSet::new());
    }
    let ids: Vec<SubscriptionId> = ids.into_iter().collect();
    let stored: Vec<i64> = ids.iter().map(|id| id.stored()).collect();
    let mut versions: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in api.store.select_versions(&stored).await? {
        versions.entry(id).or_default().push(version);
    }
    let is_hidden = |id: &SubscriptionId| !is_there(caller, versions.get(id).map(Vec::as_slice));
    Ok(ids.into_iter().filter(is_hidden).collect())
}

/// Whether a subscription whose patterns changed so is there for the caller's key.
pub(crate) fn is_there(caller: &Caller, versions: Option<&[Version]>) -> bool {
    if caller.key.event_types.is_none() {
        return true;
    }
    versions.is_some_and(|versions| {
        versions.iter().all(|version| caller.key.covers(&version.event_types))
    })
}

/// Refuses those for whose key the subscription is not there.
pub(crate) async fn must_be_there(
    api: &Api,
    caller: &Caller,
    id: SubscriptionId,
) -> Result<(), Problem> {
    if hidden(api, caller, [id]).await?.is_empty() {
        Ok(())
    } else {
        Err(Problem::not_found("subscription"))
    }
}
