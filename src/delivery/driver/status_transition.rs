//! Turns in a subscription's life that its receiver brings about: made as changes of the subscription, with an entry in
//! the log.

use crate::domain::subscription::transition::Turn;
use std::sync::Arc;

use crate::domain::access::audit::Actor;
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change::Changed;
use crate::log::Log;
use crate::store::Store;

impl Turn {
    fn log(&self, subscription: &Subscription) {
        let id = subscription.id;
        match self {
            Self::Verified(verified) => {
                let (origin, rate) = (verified.origin.as_deref(), verified.rate_per_minute);
                tracing::info!(subscription = %id, origin, rate, "a receiver has agreed to what it will be sent");
            }
            turn => {
                tracing::warn!(subscription = %id, ?turn, "a subscription's status has changed");
            }
        }
    }
}

/// Makes the change, unless its owner has stopped the subscription, deleted it or pointed it elsewhere meanwhile.
pub(crate) async fn make(log: Log, store: Store, subscription: Arc<Subscription>, turn: Turn) {
    let mut current = (*subscription).clone();
    for wait in reconnect_waits() {
        if !turn.applies_to(&current) {
            return;
        }
        match log.change(&turn.change(current.clone()), Some(&current), &Actor::hub()).await {
            Ok(Changed::Made { .. } | Changed::Replayed { .. }) => {
                turn.log(&current);
                return;
            }
            Ok(Changed::Stale | Changed::NoRoom) => {
                match store.subscription(&current.tenant, current.id).await {
                    Ok(Some(newer))
                        if newer.definition.has_same_verification(&subscription.definition) =>
                    {
                        current = newer;
                    }
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, subscription = %current.id, "cannot look a subscription up");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, subscription = %current.id, "cannot change a subscription's status");
            }
        }
        tokio::time::sleep(wait).await;
    }
}
