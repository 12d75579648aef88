//! Applies a status transition: writes it as a change of the subscription, with an entry in the log.

use std::sync::Arc;

use crate::domain::access::audit::Actor;
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change::ChangeResult;
use crate::domain::subscription::transition::StatusTransition;
use crate::log::Log;
use crate::store::Store;

/// Retries until the database answers. Does nothing if the current status no longer allows the change, or if the
/// subscription was deleted, or its receiver or its verification changed.
pub(super) async fn apply_transition(
    log: Log,
    store: Store,
    subscription: Arc<Subscription>,
    transition: StatusTransition,
) {
    let mut current = (*subscription).clone();
    for wait in reconnect_delays() {
        if !transition.applies_to(&current) {
            return;
        }
        let change = transition.change(current.clone());
        match log.change(&change, Some(&current), &Actor::hub()).await {
            Ok(ChangeResult::Applied { .. } | ChangeResult::Replayed { .. }) => {
                log_applied(&current, &transition);
                return;
            }
            Ok(ChangeResult::Stale | ChangeResult::QuotaExceeded) => {
                match store.select_subscription(&current.tenant, current.id).await {
                    Ok(Some(newer))
                        if newer.definition.has_same_verification(&subscription.definition) =>
                    {
                        current = newer;
                    }
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, subscription = %current.id, "cannot read a subscription to change its status; retrying");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, subscription = %current.id, "cannot change a subscription's status; retrying");
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn log_applied(subscription: &Subscription, transition: &StatusTransition) {
    let id = subscription.id;
    match transition {
        StatusTransition::Verified(verified) => {
            let (origin, rate) = (verified.origin.as_deref(), verified.rate_per_minute);
            tracing::info!(subscription = %id, origin, rate, "receiver verified");
        }
        transition => {
            tracing::warn!(subscription = %id, ?transition, "subscription status changed");
        }
    }
}
