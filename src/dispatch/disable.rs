//! Disabling a subscription whose receiver answered 410 Gone.

use std::sync::Arc;

use crate::log::{Log, change};
use crate::store::Store;
use crate::store::subscriptions::Changed;
use crate::values::retry::reconnect_waits;
use crate::values::subscription::{Status, Subscription};

const REASON: &str = "the receiver answered 410 Gone";

/// Disables `subscription`, unless its owner has stopped it, deleted it or pointed it elsewhere meanwhile.
pub(super) async fn gone(log: Log, store: Store, subscription: Arc<Subscription>) {
    let mut current = (*subscription).clone();
    for wait in reconnect_waits() {
        match log.change(&change::disabled(current.clone(), REASON)).await {
            Ok(Changed::Made { .. } | Changed::Replayed { .. }) => {
                tracing::warn!(subscription = %current.id, reason = REASON, "subscription disabled");
                return;
            }
            Ok(Changed::Stale) => match store.subscription(&current.tenant, current.id).await {
                Ok(Some(newer)) if still_meant(&newer, &subscription) => current = newer,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, subscription = %current.id, "cannot look a subscription up");
                }
            },
            Err(error) => {
                tracing::warn!(%error, subscription = %current.id, "cannot disable a subscription");
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn still_meant(newer: &Subscription, answered: &Subscription) -> bool {
    newer.status == Status::Active
        && newer.definition.callback_url == answered.definition.callback_url
}
